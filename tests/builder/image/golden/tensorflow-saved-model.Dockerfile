FROM python:3.11-slim-bookworm
RUN pip install --no-cache-dir 'tensorflow-cpu==2.15.1'
ADD artifacts/runtime.tar /
HEALTHCHECK --interval=10s --timeout=3s CMD ["/usr/local/bin/processor", "--health"]
CMD ["processor"]
ADD artifacts/config.tar /
ADD artifacts/code.tar /
