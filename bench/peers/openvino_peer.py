"""OpenVINO GenAI's continuous batching in this process: rows of one call in one batch, 8-bit weights as exported.

Needs the package openvino-genai, and a model exported with `optimum-cli export openvino --weight-format int8`.
Reads one JSON object from standard input: {"model": folder, "adapters": [files], "threads", "newTokens",
"loads": [{"label", "prompts": [...], "adapters": [index or null, ...]}]}; writes one JSON line per load:
{"label", "tokensPerSecond"}. Requests of one call must share their adapter, so a load with different ones runs call by
call. Each load runs twice; the better run counts.
"""
import json
import sys
import time

import openvino_genai as ov

task = json.load(sys.stdin)
scheduler = ov.SchedulerConfig()
scheduler.cache_size = 2
scheduler.max_num_batched_tokens = 512
scheduler.dynamic_split_fuse = True
scheduler.enable_prefix_caching = False
properties = {"INFERENCE_NUM_THREADS": task["threads"]}
adapters = [ov.Adapter(path) for path in task["adapters"]]
if adapters:
    properties["adapters"] = ov.AdapterConfig(adapters)
pipeline = ov.ContinuousBatchingPipeline(task["model"], scheduler, "CPU", properties)


def generation(adapter):
    config = ov.GenerationConfig()
    config.max_new_tokens = task["newTokens"]
    config.ignore_eos = True
    config.do_sample = False
    config.apply_chat_template = False
    if adapters:
        config.adapters = ov.AdapterConfig() if adapter is None else ov.AdapterConfig(adapters[adapter])
    return config


def run(load):
    chosen = load["adapters"]
    start = time.perf_counter()
    if len(set(chosen)) == 1:
        pipeline.generate(load["prompts"], [generation(chosen[0])] * len(chosen))
    else:
        for prompt, adapter in zip(load["prompts"], chosen):
            pipeline.generate([prompt], [generation(adapter)])
    return len(chosen) * task["newTokens"] / (time.perf_counter() - start)


run({**task["loads"][0]})
for load in task["loads"]:
    best = max(run(load) for _ in range(2))
    print(json.dumps({"label": load["label"], "tokensPerSecond": best}), flush=True)
