FROM python:3.9
ARG RELEASE
RUN apt-get update
RUN pip install  --no-cache-dir numpy
ADD artifacts/runtime.tar /
HEALTHCHECK --interval=10s --timeout=3s CMD ["/usr/local/bin/processor", "--health"]
ADD artifacts/config.tar /
ADD artifacts/code.tar /
RUN pip install -r /opt/nuclio/requirements.txt
CMD ["processor"]
