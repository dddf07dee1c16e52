.PHONY: proto
PY := .venv/bin/python
proto:
	$(PY) -m tests.tools.generate_proto
