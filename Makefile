# Aliases only: dev.py does the work.
.PHONY: demo test lint bench clean
demo test lint bench clean:
	python3 dev.py $@
