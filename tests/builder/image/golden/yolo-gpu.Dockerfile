FROM nvidia/cuda:12.6.3-cudnn-runtime-ubuntu22.04
USER root
ENV DEBIAN_FRONTEND=noninteractive
RUN apt-get update && apt-get install -y --no-install-recommends python3-pip python-is-python3
RUN pip install --no-cache-dir \
  ultralytics==8.0.114 \
  onnxruntime-gpu
ENV PATH=/opt/venv/bin:${PATH} LD_LIBRARY_PATH=/usr/lib
WORKDIR /opt/nuclio
ADD artifacts/runtime.tar /
HEALTHCHECK --interval=10s --timeout=3s CMD ["/usr/local/bin/processor", "--health"]
CMD ["processor"]
ADD artifacts/config.tar /
ADD artifacts/code.tar /
