# make demo   sets up .venv and runs a short comparison on real data
# make test   sets up .venv, then runs the linter and the tests for every change
# make test-all  the same with the slow tests
# make lint   only the linter and the type checker
# make venv   only the set-up
# make gpu    the tests and step times that need a GPU, on a machine with one
# make upstream  the same in .venv-upstream, with MMEngine, mmcv-lite, mmpretrain
#             and mmpose under their own names, and the tests that meet them
# make docs   builds these pages as a site, build/site, with warnings as errors
# make generate  writes the docs' tables, the metafiles and model-index.yml
# make wheel  builds the wheel into dist/ and checks it
# make clean  removes what these made
#
# make demo PYTHON=/path/to/python3.12   with this interpreter
# make test NUMPY=1   the same in .venv-numpy1, with numpy 1: without
#             mmsegmentation and mmdetection, which need numpy 2
# make demo UV=   with pip where uv is on the PATH, which is faster

NUMPY := 2
MM := mminstall
VENV := .venv$(if $(filter 1,$(NUMPY)),-numpy1)
BIN := $(VENV)/bin
UV := $(shell command -v uv)
PIP := $(if $(UV),$(UV) pip install --python $(BIN)/python,$(BIN)/python -m pip install \
	--disable-pip-version-check) -c requirements/constraints.txt -c requirements/numpy$(NUMPY).txt
# OneDL's mmsegmentation and mmdetection are for its MMEngine and numpy 2.
SEGMENTATION := $(if $(filter mminstall2,$(MM)$(NUMPY)),-r requirements/segmentation.txt)
DETECTION := $(if $(filter mminstall2,$(MM)$(NUMPY)),-r requirements/detection.txt)
# Compiled against numpy 2, and anew where numpy 1 was installed before. numpy 1 has
# wheels, but for Python 3.12.
XTCOCOTOOLS := $(PIP) --no-deps --no-build-isolation --no-cache-dir --force-reinstall \
	$(if $(filter 2,$(NUMPY)),--no-binary xtcocotools) -r requirements/xtcocotools.txt

# Two processes with a thread each: what takes time is starting trainings.
PYTEST := python -m pytest -n 2 --dist loadfile
# MMEngine's Runner would take a GPU if it saw one.
CPU := OMP_NUM_THREADS=1 CUDA_VISIBLE_DEVICES=

# An interpreter that fits: it runs, is 3.10 to 3.14, and can make a venv.
FITS := import sys$(if $(UV),,, venv, ensurepip); sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 14))
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.10 python3; do \
	if $$p -c '$(FITS)' >/dev/null 2>&1; then command -v $$p; break; fi; done)

.PHONY: demo lint test test-all gpu upstream venv generate docs wheel clean

test: lint
	$(CPU) $(BIN)/$(PYTEST) -m 'not slow and not gpu'

test-all: lint
	$(CPU) $(BIN)/$(PYTEST) -m 'not gpu'

lint: $(VENV)/.installed
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy

demo: $(VENV)/.installed
	$(BIN)/python tools/demo.py

# Writes docs/gpu.md.
gpu: $(VENV)/.installed
	@$(BIN)/python -m tests.gpu.report --tests

# Importing, a training of each task, its resume and its test; that losses,
# models and hooks are what they are under the other names.
upstream:
	$(MAKE) venv VENV=.venv-upstream MM=upstream NUMPY=1
	$(CPU) .venv-upstream/bin/$(PYTEST) tests/test_compat.py tests/test_checkpoints.py \
		tests/tools/test_trust.py tests/hooks tests/loops \
		tests/sampling/test_batch_sampler_resume.py tests/engine/test_models.py tests/losses \
		tests/tools/test_tools.py::test_configs_train_resume_and_test

venv: $(VENV)/.installed

# Set up anew only when what is to be installed has changed.
$(VENV)/.installed: setup.py $(filter-out requirements/docs.txt,$(wildcard requirements/*.txt)) | $(BIN)/python
	$(PIP) -r requirements/build.txt -r requirements/runtime.txt \
		-r requirements/$(MM).txt -r requirements/classification.txt \
		-r requirements/pose.txt $(SEGMENTATION) \
		-r requirements/optional.txt -r requirements/analysis.txt \
		-r requirements/tests.txt
	$(PIP) --no-deps -r requirements/mmpose.txt $(DETECTION)
	$(XTCOCOTOOLS) || { \
		echo 'Trying once more, with a C compiler that comes from pip.'; \
		$(PIP) ziglang && CC='$(CURDIR)/$(BIN)/python -m ziglang cc' $(XTCOCOTOOLS); }
	$(PIP) --no-deps --no-build-isolation -e .
	@# yapf, MMEngine's, writes a cache when it is first imported, and two
	@# processes that do so at once read half of it.
	$(BIN)/python -c 'import mmengine.config'
	@touch $@

$(BIN)/python:
	@python='$(PYTHON)'; "$${python:-false}" -c '$(FITS)' >/dev/null 2>&1 || { \
		echo 'No Python from 3.10 to 3.14 with its venv module was found:' \
			'install one (on Debian with python3-venv) or name it with PYTHON=/path/to/python3.11.' >&2; \
		exit 1; }; \
	$(if $(UV),$(UV) venv --clear --python "$$python",\
		"$$python" -m venv --clear) $(VENV)

# The notebooks run, and links and anchors are checked.
docs: $(VENV)/.docs
	$(CPU) PYTHONPATH='$(CURDIR)' $(BIN)/python -m sphinx -q -W --keep-going \
		-c docs -d build/doctrees . build/site
	@echo 'The site is in build/site: open build/site/index.html.'

$(VENV)/.docs: requirements/docs.txt requirements/constraints.txt $(VENV)/.installed
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo 'Sphinx 9 needs Python 3.11 or later: make docs VENV=.venv-docs PYTHON=/path/to/python3.11' >&2; \
		exit 1; }
	$(PIP) -r requirements/docs.txt
	@touch $@

generate: $(VENV)/.installed
	$(BIN)/python docs/generate.py

wheel: $(VENV)/.installed
	$(BIN)/python -m build --wheel --no-isolation
	$(if $(UV),$(UV) tool run,$(PIP) twine && $(BIN)/python -m) twine check --strict dist/*.whl

clean:
	rm -rf .venv .venv-numpy1 .venv-upstream .venv-docs build dist *.egg-info
