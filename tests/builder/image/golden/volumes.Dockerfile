FROM python:3.9
ADD artifacts/runtime.tar /
HEALTHCHECK --interval=10s --timeout=3s CMD ["/usr/local/bin/processor", "--health"]
CMD ["processor"]
ADD artifacts/config.tar /
ADD artifacts/code.tar /
