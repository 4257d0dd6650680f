# The page and the HTTP API of `keras-fcn serve`, on CPUs. docs/guides/deploy.md has the commands.
FROM python:3.12-slim AS build
RUN python -m venv /opt/keras-fcn
ENV PATH=/opt/keras-fcn/bin:$PATH
WORKDIR /source
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY keras_fcn keras_fcn
# hadolint ignore=DL3013
RUN pip install --no-cache-dir ".[serve,large]"

FROM python:3.12-slim
COPY --from=build /opt/keras-fcn /opt/keras-fcn
# Downloaded weights go to the user's home folder.
RUN useradd --uid 10001 --create-home serve
USER 10001
WORKDIR /home/serve
ENV PATH=/opt/keras-fcn/bin:$PATH \
    MPLCONFIGDIR=/tmp \
    TF_CPP_MIN_LOG_LEVEL=2
EXPOSE 8000
HEALTHCHECK --start-period=2m --timeout=10s --retries=3 CMD \
    ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=9)"]
ENTRYPOINT ["keras-fcn", "serve", "--host", "0.0.0.0"]
CMD ["camvid"]
