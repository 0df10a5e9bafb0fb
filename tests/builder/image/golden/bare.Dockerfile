FROM cvat.openvino.omz.public.mask_rcnn_inception_resnet_v2_atrous_coco.base
ADD artifacts/runtime.tar /
HEALTHCHECK --interval=10s --timeout=3s CMD ["/usr/local/bin/processor", "--health"]
CMD ["processor"]
ADD artifacts/config.tar /
ADD artifacts/code.tar /
