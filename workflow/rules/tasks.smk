# The unit of the workflow is the task. task.json is the only configuration that a stage reads.


rule resolve_task:
    output:
        "results/{experiment}/seed{seed}/task{task}/task.json",
    log:
        "results/{experiment}/seed{seed}/task{task}/logs/resolve.log",
    conda:
        "../../envs/clclip.yaml"
    params:
        task=task_json,
    shell:
        "clclip resolve --json {params.task:q} --out {output:q} --log {log:q}"


rule split_task:
    input:
        task="results/{experiment}/seed{seed}/task{task}/task.json",
        data=ancient(data_index),
    output:
        "results/{experiment}/seed{seed}/task{task}/train.json",
        "results/{experiment}/seed{seed}/task{task}/test.json",
    log:
        "results/{experiment}/seed{seed}/task{task}/logs/split.log",
    conda:
        "../../envs/clclip.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        code=code("split"),
    shell:
        "clclip split --task {input.task:q} --log {log:q}"


rule train_task:
    input:
        frozen_inputs("train"),
        previous_weights,
        "results/{experiment}/seed{seed}/task{task}/train.json",
        task="results/{experiment}/seed{seed}/task{task}/task.json",
    output:
        "results/{experiment}/seed{seed}/task{task}/weights.safetensors",
        "results/{experiment}/seed{seed}/task{task}/history.csv",
    log:
        "results/{experiment}/seed{seed}/task{task}/logs/train.log",
    benchmark:
        "results/{experiment}/seed{seed}/task{task}/logs/train.tsv"
    conda:
        "../../envs/clclip.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 720 * attempt,
        gpu=lambda wildcards: gpu(planned(wildcards).devices * planned(wildcards).nodes),
        attempt=lambda wildcards, attempt: attempt,
        devices=lambda wildcards: planned(wildcards).devices,
        nodes=lambda wildcards: planned(wildcards).nodes,
    params:
        code=code("train"),
    shell:
        "clclip train --task {input.task:q} --attempt {resources.attempt} --log {log:q}"
        " --devices {resources.devices} --nodes {resources.nodes}"


rule predict_task:
    input:
        frozen_inputs("test"),
        seen_weights,
        "results/{experiment}/seed{seed}/task{task}/test.json",
        task="results/{experiment}/seed{seed}/task{task}/task.json",
    output:
        "results/{experiment}/seed{seed}/task{task}/predictions.json",
    log:
        "results/{experiment}/seed{seed}/task{task}/logs/predict.log",
    benchmark:
        "results/{experiment}/seed{seed}/task{task}/logs/predict.tsv"
    conda:
        "../../envs/clclip.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
        gpu=lambda wildcards: gpu(),
        attempt=lambda wildcards, attempt: attempt,
    params:
        code=code("predict"),
    shell:
        "clclip predict --task {input.task:q} --attempt {resources.attempt} --log {log:q}"


rule calibrate_task:
    input:
        frozen_inputs("train"),
        seen_weights,
        data=ancient(data_index),
        task="results/{experiment}/seed{seed}/task{task}/task.json",
    output:
        "results/{experiment}/seed{seed}/task{task}/calibration.json",
        "results/{experiment}/seed{seed}/task{task}/holdout.json",
    log:
        "results/{experiment}/seed{seed}/task{task}/logs/calibrate.log",
    conda:
        "../../envs/clclip.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
        gpu=lambda wildcards: gpu(),
        attempt=lambda wildcards, attempt: attempt,
    params:
        code=lambda wildcards: fingerprint("clclip.detection.stages.calibrate"),
    shell:
        "clclip calibrate-task --task {input.task:q} --attempt {resources.attempt} --log {log:q}"


rule score_task:
    input:
        "results/{experiment}/seed{seed}/task{task}/predictions.json",
        "results/{experiment}/seed{seed}/task{task}/test.json",
        task="results/{experiment}/seed{seed}/task{task}/task.json",
    output:
        "results/{experiment}/seed{seed}/task{task}/scores.json",
    log:
        "results/{experiment}/seed{seed}/task{task}/logs/score.log",
    conda:
        "../../envs/clclip.yaml"
    resources:
        mem_mb=8000,
        runtime=60,
    params:
        code=code("score"),
    shell:
        "clclip score --task {input.task:q} --log {log:q}"
