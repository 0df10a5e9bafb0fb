FROM fnbuild/test-base:debian
ENV A=1 B="two words" C='$A'
ENV D=4 \
E=5
ENV OLD as one text
ENV PATH=/opt/own/bin:${PATH}
ARG RELEASE=12
ARG PATH="/opt/argument/bin:${PATH}"
LABEL org.example.a="1" \
org.example.b="2"
RUN test "$A $B $C $D$E $OLD $RELEASE" = '1 two words $A 45 as one text 12'
RUN <<'EOF'
case "$PATH" in
  /opt/own/bin:/* | /opt/argument/bin:/opt/own/bin:/*) ;;
  *) exit 1 ;;
esac
EOF
ADD artifacts/runtime.tar /
HEALTHCHECK --interval=10s --timeout=3s CMD ["/usr/local/bin/processor", "--health"]
CMD ["processor"]
ADD artifacts/config.tar /
ADD artifacts/code.tar /
