FROM python:3.11-slim-bookworm
RUN pip install --no-cache-dir 'torch==2.13.0' 'transformers==5.23.0' 'numpy>=1.26,<3' 'pillow>=10,<14' 'opencv-python-headless>=4.9,<5'
ADD artifacts/runtime.tar /
HEALTHCHECK --interval=10s --timeout=3s CMD ["/usr/local/bin/processor", "--health"]
CMD ["processor"]
ADD artifacts/config.tar /
ADD artifacts/code.tar /
