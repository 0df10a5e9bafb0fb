FROM tensorflow/tensorflow:2.10.1
RUN apt-get update
ADD artifacts/runtime.tar /
HEALTHCHECK --interval=10s --timeout=3s CMD ["/usr/local/bin/processor", "--health"]
ADD artifacts/config.tar /
ADD artifacts/code.tar /
RUN pip install tensorflow
CMD ["processor"]
