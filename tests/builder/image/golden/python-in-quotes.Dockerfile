FROM fnbuild/test-base:debian
ENV WORD=known
RUN ["/bin/sh", "-c", "python3 -c \"\n# fetch the weights once\nimport os\nopen('/made', 'w').write('''a 'b' \\\\\\\\ ''' + os.environ['WORD'] + '${WORD}' + 'ü')\n\""]
RUN ["/bin/sh", "-c", "true &&   python3 -c '\nfor word in (\"one\",\n             \"two\"):\n    print(word, file=open(\"/more\", \"a\"))\n' &&   echo three >> /more"]
RUN test "$(cat /made)" = "a 'b' \\ knownknownü" && test "$(cat /more | xargs)" = 'one two three'
ADD artifacts/runtime.tar /
HEALTHCHECK --interval=10s --timeout=3s CMD ["/usr/local/bin/processor", "--health"]
CMD ["processor"]
ADD artifacts/config.tar /
ADD artifacts/code.tar /
