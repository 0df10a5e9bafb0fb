FROM fnbuild/test-base:debian
RUN touch /first
RUN touch    /second  /third
RUN <<'EOF'
touch /fourth
touch /fifth
EOF
ADD artifacts/runtime.tar /
HEALTHCHECK --interval=10s --timeout=3s CMD ["/usr/local/bin/processor", "--health"]
ADD artifacts/config.tar /
ADD artifacts/code.tar /
RUN cd /opt/nuclio && test -f main.py && test -f /first
RUN ls /second /third /fourth /fifth
CMD ["processor"]
