#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds models/demo from the bank and checks it. Usage: tools/demo/make.sh [PYTHON]
set -eu
cd "$(dirname "$0")"
python="${1:-python3}"
"$python" train_tokenizer.py
"$python" train_base.py
"$python" train_adapters.py
"$python" eval.py --write
