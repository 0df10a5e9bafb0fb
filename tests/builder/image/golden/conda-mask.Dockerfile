FROM continuumio/miniconda3:4.12.0
ARG PATH="/opt/conda/bin:${PATH}"
RUN conda create -y -n cells python=3.6
SHELL ["conda", "run", "-n", "cells", "/bin/bash", "-c"]
RUN ["conda", "run", "-n", "cells", "/bin/bash", "-c", "eval \"$(printf %b 'python -c \"\\n# fetch once\\nimport urllib.request\\nprint(\\0047ok\\0047)\\n\"')\""]
RUN export V=`uname -r` && echo "$V" | awk '{print $NF}'
ENTRYPOINT ["conda", "run", "--no-capture-output", "-n", "cells"]
ADD artifacts/runtime.tar /
HEALTHCHECK --interval=10s --timeout=3s CMD ["/usr/local/bin/processor", "--health"]
ADD artifacts/config.tar /
ADD artifacts/code.tar /
USER root
RUN chmod -R a+rX /opt/nuclio
CMD ["processor"]
