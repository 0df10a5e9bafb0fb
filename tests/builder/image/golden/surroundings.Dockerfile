FROM fnbuild/test-base:debian
RUN useradd -m worker
ENTRYPOINT ["/usr/bin/env", "ENTERED=yes"]
CMD this is not run
WORKDIR /home/worker/models
EXPOSE 8080
USER worker
WORKDIR weights
ADD artifacts/runtime.tar /
HEALTHCHECK --interval=10s --timeout=3s CMD ["/usr/local/bin/processor", "--health"]
ADD artifacts/config.tar /
ADD artifacts/code.tar /
RUN test "$(id -un)" = worker && test "$(pwd)" = /home/worker/models/weights
RUN test -O /opt/nuclio/main.py || ! touch /opt/nuclio/main.py
WORKDIR /opt/nuclio
CMD ["processor"]
