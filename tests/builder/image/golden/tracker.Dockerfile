FROM ubuntu:22.04
WORKDIR /opt/nuclio
ADD https://example.com/files/weights.pth?download=1&v=2 /opt/nuclio/weights.pth
RUN pip3 install torch==2.2.0 torchvision --index-url https://example.com/whl/cpu
ADD artifacts/runtime.tar /
HEALTHCHECK --interval=10s --timeout=3s CMD ["/usr/local/bin/processor", "--health"]
CMD ["processor"]
ADD artifacts/config.tar /
ADD artifacts/code.tar /
