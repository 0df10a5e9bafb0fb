FROM python:3.10
WORKDIR /opt/nuclio
ADD https://example.com/pose/config.py .
RUN pip install --no-cache-dir 'openmim>=0.3'
ADD artifacts/runtime.tar /
HEALTHCHECK --interval=10s --timeout=3s CMD ["/usr/local/bin/processor", "--health"]
CMD ["processor"]
ADD artifacts/config.tar /
ADD artifacts/code.tar /
