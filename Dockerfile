# Two targets: `cpu` (OpenVINO, no TensorFlow) and `gpu` (TensorFlow with CUDA from PyPI).
#   docker build --target cpu --tag cifar10-serving:cpu .
# For models from an object store: --build-arg REQUIREMENTS=stores, which adds the packages of all stores (cpu only).
# To pin the base image: --build-arg BASE_IMAGE=python:3.11-slim-bookworm@sha256:…
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS base
RUN groupadd --system --gid 10001 service \
    && useradd --system --uid 10001 --gid service --no-create-home --home-dir /nonexistent service
COPY deploy/sagemaker/serve /usr/local/bin/serve

# OpenVINO's plugins for Intel's GPU and NPU, its readers of other formats and its headers are 90 MB that a CPU image
# never loads. The tests of numpy are another 10.
FROM base AS cpu-packages
ARG REQUIREMENTS=serve
COPY requirements/${REQUIREMENTS}.txt /tmp/requirements.txt
RUN python -m venv --without-pip /opt/venv \
    && python -m pip --python /opt/venv/bin/python install --no-cache-dir --require-hashes -r /tmp/requirements.txt \
    && cd /opt/venv/lib/python3*/site-packages \
    && rm -rf openvino/include numpy/*/tests numpy/tests \
    && cd openvino/libs \
    && rm -f libopenvino_intel_gpu_plugin.so libopenvino_intel_npu_plugin.so cache.json libopenvino_gguf_frontend.so.* \
        libopenvino_jax_frontend.so.* libopenvino_onnx_frontend.so.* libopenvino_paddle_frontend.so.* \
        libopenvino_pytorch_frontend.so.* libopenvino_tensorflow_lite_frontend.so.*

# Compile and set permissions here: a change in a later layer would store each file twice.
FROM base AS application
COPY models /models
WORKDIR /code
COPY cifar10_serving cifar10_serving
COPY service service
RUN python3 -m compileall -q . && chmod -R a+rX /code /models

# The base image without files that only builds need: pip, perl, apt's lists, documentation, translations.
FROM base AS trimmed
RUN rm -rf /usr/share/doc /usr/share/info /usr/share/locale /usr/share/man /usr/share/perl /usr/share/perl5 \
        /usr/share/python-wheels /usr/lib/*/perl /usr/lib/*/perl5 /usr/lib/*/libperl.so.* \
        /usr/lib/python3/dist-packages/pip* /usr/lib/python3/dist-packages/setuptools* \
        /usr/lib/python3/dist-packages/pkg_resources /usr/lib/python3/dist-packages/wheel* \
        /usr/local/lib/python3.*/ensurepip /usr/local/lib/python3.*/site-packages/pip* \
        /usr/local/lib/python3.*/site-packages/setuptools* /usr/local/lib/python3.*/site-packages/wheel* \
        /usr/bin/pip* /usr/local/bin/pip* /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/* /tmp/* /root/.cache

# Everything belongs to root and is read-only for the service, except the cache of compiled models.
FROM scratch AS service
COPY --from=trimmed / /
COPY --from=application /models /app/models
COPY --from=application /code /app
WORKDIR /app
ENV PATH=/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1 \
    CIFAR10_HOST=0.0.0.0 \
    CIFAR10_LAME_DUCK_S=3
EXPOSE 8000
USER service
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s CMD ["python", "-m", "service.healthcheck"]
CMD ["python", "-m", "service"]

FROM service AS cpu
COPY --from=cpu-packages /opt/venv /opt/venv
USER root
RUN install --directory --owner service --group service --mode 700 /var/cache/cifar10-serving
USER service
ENV CIFAR10_COMPILED_MODELS=/var/cache/cifar10-serving \
    CIFAR10_MODELS_MIRROR_FOLDER=/var/cache/cifar10-serving/models

# After `cpu`: Docker's classic builder builds every stage before the target, needed or not.
FROM base AS gpu-packages
COPY requirements/gpu.txt /tmp/requirements.txt
RUN python -m venv --without-pip /opt/venv \
    && python -m pip --python /opt/venv/bin/python install --no-cache-dir --require-hashes -r /tmp/requirements.txt

FROM service AS gpu
ENV CIFAR10_DEVICE=gpu
COPY --from=gpu-packages /opt/venv /opt/venv
