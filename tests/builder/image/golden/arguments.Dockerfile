FROM fnbuild/test-base:debian
ARG NUCLIO_ARCH=amd64
ARG NUCLIO_BUILD_LOCAL_HANDLER_DIR=handler
ARG NUCLIO_BUILD_OFFLINE=true
ARG RELEASE
ARG WORDS
ARG no_proxy
RUN test "$RELEASE" = 12 && test "$WORDS" = 'a "b" $c' && test -z "$DROPPED"
COPY $NUCLIO_BUILD_LOCAL_HANDLER_DIR/main.py /early.py
RUN test "$NUCLIO_ARCH" = "$(dpkg --print-architecture)" && test "$no_proxy" = example.org
ADD artifacts/runtime.tar /
HEALTHCHECK --interval=10s --timeout=3s CMD ["/usr/local/bin/processor", "--health"]
ADD artifacts/config.tar /
ADD artifacts/code.tar /
RUN test "${NUCLIO_BUILD_OFFLINE}" = true && cmp /early.py /opt/nuclio/main.py
CMD ["processor"]
