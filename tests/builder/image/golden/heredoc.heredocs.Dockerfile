FROM fnbuild/test-base:debian
RUN <<EOF
# a comment of the script
set -e
echo "one $HOME" > /one
EOF
RUN python3 - two <<'END'
import sys
# a comment of Python's
open("/two", "w").write(sys.argv[1] + ' "$HOME"')
END
RUN <<-'EOF'
	#!/usr/bin/env python3
	print('three', file=open("/three", "w"))
	EOF
RUN cat > /four <<A && cat > /five <<B
four
A
five
B
RUN <<'EOF1'
cat > /six <<EOF
six
EOF
echo seven > /seven
EOF1
RUN test "$(cat /one /two /three /four /five /six /seven | xargs)" = 'one /root two $HOMEthree four five six seven'
ADD artifacts/runtime.tar /
HEALTHCHECK --interval=10s --timeout=3s CMD ["/usr/local/bin/processor", "--health"]
CMD ["processor"]
ADD artifacts/config.tar /
ADD artifacts/code.tar /
