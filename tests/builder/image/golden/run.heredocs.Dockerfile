FROM fnbuild/test-base:debian
RUN mkdir /made && touch /made/plain
RUN touch /made/one \
  && touch /made/two
RUN touch \
  # a comment between them
  /made/three \
  /made/four
RUN touch /made/five
RUN export V=`uname -s` && echo "$V x" | awk '{print $NF}' > /made/backticks
RUN ["touch", "/made/array"]
RUN ["touch", "/made/long array"]
RUN [ -f /made/plain ] && touch /made/brackets
RUN touch /made/small
RUN <<'EOF'
echo a\\
echo b > /made/backslashes
EOF
RUN cd /made && ls plain one two three four five array 'long array' brackets small && test "$(cat backticks)" = x && test "$(cat backslashes)" = 'b'
ADD artifacts/runtime.tar /
HEALTHCHECK --interval=10s --timeout=3s CMD ["/usr/local/bin/processor", "--health"]
CMD ["processor"]
ADD artifacts/config.tar /
ADD artifacts/code.tar /
