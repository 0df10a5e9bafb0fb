FROM fnbuild/test-base:debian
WORKDIR /opt/nuclio
ADD https://models.example.org/pose.pth?download=1&v=2 /weights/pose.pth
ADD https://models.example.org/pose.pth .
COPY handler/main.py /early/
COPY ["handler/main.py", "/with space/"]
COPY --from=fnbuild/test-base:debian /etc/debian_version /version
RUN cmp /early/main.py '/with space/main.py' && test -s /version
RUN cmp /weights/pose.pth pose.pth
ADD artifacts/runtime.tar /
HEALTHCHECK --interval=10s --timeout=3s CMD ["/usr/local/bin/processor", "--health"]
ADD artifacts/config.tar /
ADD artifacts/code.tar /
COPY handler/ /late/
RUN cmp /late/main.py main.py
CMD ["processor"]
