FROM fnbuild/test-base:debian
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN ! (false | true)
RUN ["/bin/bash", "-o", "pipefail", "-c", "words=(one two)\necho \"${words[1]}\" > /made"]
RUN ["/bin/bash", "-o", "pipefail", "-c", "printf '%s\\n' '#!/bin/sh' 'case \"$*\" in *\"' '\"*) echo no breaks >&2; exit 1;; esac' 'shift 3' 'CONDA=yes exec \"$@\"' > /usr/local/bin/conda\nchmod +x /usr/local/bin/conda"]
SHELL ["conda", "run", "-n", "cells", "/bin/bash", "-c"]
RUN ["conda", "run", "-n", "cells", "/bin/bash", "-c", "eval \"$(printf %b 'echo \"$CONDA\" \\0047it\\0047\"\\0047\"\\0047s\\0047 > /conda\\nprintf \\0047a\\\\\\\\b\\\\n\\0047 >> /conda')\""]
ADD artifacts/runtime.tar /
HEALTHCHECK --interval=10s --timeout=3s CMD ["/usr/local/bin/processor", "--health"]
ADD artifacts/config.tar /
ADD artifacts/code.tar /
RUN ["conda", "run", "-n", "cells", "/bin/bash", "-c", "eval \"$(printf %b '# behind the code\\ntest \"$(cat /made)\" = two\\ntest \"$(cat /conda)\" = \"$(printf \\0047yes it\\0047\"\\0047\"\\0047s\\\\na\\\\\\\\b\\0047)\"')\""]
RUN test "$CONDA" = yes
CMD ["processor"]
