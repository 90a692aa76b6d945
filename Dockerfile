# Two targets: `cpu` (OpenVINO, no TensorFlow) and `gpu` (TensorFlow with CUDA from PyPI).
#   docker build --target cpu --tag cifar10-serving:cpu .
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS base
RUN groupadd --system --gid 10001 service \
    && useradd --system --uid 10001 --gid service --no-create-home --home-dir /nonexistent service

# OpenVINO's plugins for Intel's GPU and NPU are 60 MB that a CPU image never loads.
FROM base AS cpu-packages
COPY requirements/serve.txt /tmp/requirements.txt
RUN python -m venv --without-pip /opt/venv \
    && python -m pip --python /opt/venv/bin/python install --no-cache-dir --require-hashes -r /tmp/requirements.txt \
    && cd /opt/venv/lib/python3*/site-packages/openvino/libs \
    && rm -f libopenvino_intel_gpu_plugin.so libopenvino_intel_npu_plugin.so cache.json

# All of it belongs to root; the service only reads, but for the folder of what it has compiled.
FROM base AS service
WORKDIR /app
COPY models models
COPY catalog catalog
COPY runtime runtime
COPY service service
RUN python3 -m compileall -q catalog runtime service && chmod -R a+rX .
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    CIFAR10_HOST=0.0.0.0
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
ENV CIFAR10_COMPILED_MODELS=/var/cache/cifar10-serving

FROM base AS gpu-packages
COPY requirements/gpu.txt /tmp/requirements.txt
RUN python -m venv --without-pip /opt/venv \
    && python -m pip --python /opt/venv/bin/python install --no-cache-dir --require-hashes -r /tmp/requirements.txt

FROM service AS gpu
ENV CIFAR10_DEVICE=gpu
COPY --from=gpu-packages /opt/venv /opt/venv
