FROM fnbuild/test-base:debian
ADD artifacts/runtime.tar /
HEALTHCHECK --interval=1m30s --timeout=3s CMD ["/usr/local/bin/processor", "--health"]
ADD artifacts/config.tar /
ADD artifacts/code.tar /
HEALTHCHECK --interval=30s CMD true
CMD ["processor"]
