FROM jwher/alphapose:v1
USER root
WORKDIR /Alphapose
ADD artifacts/runtime.tar /
HEALTHCHECK --interval=10s --timeout=3s CMD ["/usr/local/bin/processor", "--health"]
ADD artifacts/config.tar /
ADD artifacts/code.tar /
RUN echo "works well"
CMD ["processor"]
