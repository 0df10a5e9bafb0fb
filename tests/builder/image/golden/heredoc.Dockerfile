FROM fnbuild/test-base:debian
RUN ["/bin/sh", "-c", "# a comment of the script\nset -e\necho \"one $HOME\" > /one"]
RUN ["/bin/sh", "-c", "python3 - two <<'END'\nimport sys\n# a comment of Python's\nopen(\"/two\", \"w\").write(sys.argv[1] + ' \"$HOME\"')\nEND"]
RUN ["/bin/sh", "-c", "/usr/bin/env python3 /dev/stdin <<'EOF'\n#!/usr/bin/env python3\nprint('three', file=open(\"/three\", \"w\"))\nEOF"]
RUN ["/bin/sh", "-c", "cat > /four <<A && cat > /five <<B\nfour\nA\nfive\nB"]
RUN ["/bin/sh", "-c", "cat > /six <<EOF\nsix\nEOF\necho seven > /seven"]
RUN test "$(cat /one /two /three /four /five /six /seven | xargs)" = 'one /root two $HOMEthree four five six seven'
ADD artifacts/runtime.tar /
HEALTHCHECK --interval=10s --timeout=3s CMD ["/usr/local/bin/processor", "--health"]
CMD ["processor"]
ADD artifacts/config.tar /
ADD artifacts/code.tar /
