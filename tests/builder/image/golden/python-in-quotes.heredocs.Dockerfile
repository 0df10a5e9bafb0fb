FROM fnbuild/test-base:debian
ENV WORD=known
RUN <<'EOF'
python3 -c "
# fetch the weights once
import os
open('/made', 'w').write('''a 'b' \\\\ ''' + os.environ['WORD'] + '${WORD}' + 'ü')
"
EOF
RUN <<'EOF'
true &&   python3 -c '
for word in ("one",
             "two"):
    print(word, file=open("/more", "a"))
' &&   echo three >> /more
EOF
RUN test "$(cat /made)" = "a 'b' \\ knownknownü" && test "$(cat /more | xargs)" = 'one two three'
ADD artifacts/runtime.tar /
HEALTHCHECK --interval=10s --timeout=3s CMD ["/usr/local/bin/processor", "--health"]
CMD ["processor"]
ADD artifacts/config.tar /
ADD artifacts/code.tar /
