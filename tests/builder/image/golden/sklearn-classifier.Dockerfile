FROM python:3.11-slim-bookworm
RUN pip install --no-cache-dir 'scikit-learn==1.7.2' 'joblib>=1.3,<2'
ADD artifacts/runtime.tar /
HEALTHCHECK --interval=10s --timeout=3s CMD ["/usr/local/bin/processor", "--health"]
CMD ["processor"]
ADD artifacts/config.tar /
ADD artifacts/code.tar /
