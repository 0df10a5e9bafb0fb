FROM fnbuild/test-base:debian
RUN touch /first
RUN touch    /second  /third
RUN ["/bin/sh", "-c", "touch /fourth\ntouch /fifth"]
ADD artifacts/runtime.tar /
HEALTHCHECK --interval=10s --timeout=3s CMD ["/usr/local/bin/processor", "--health"]
ADD artifacts/config.tar /
ADD artifacts/code.tar /
RUN cd /opt/nuclio && test -f main.py && test -f /first
RUN ls /second /third /fourth /fifth
CMD ["processor"]
