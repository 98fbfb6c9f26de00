# From scores to summaries and the report.


rule aggregate_seed:
    input:
        seed_files("scores.json"),
        calibrations,
        unseen,
        tasks=seed_files("task.json"),
    output:
        "results/{experiment}/seed{seed}/summary.json",
    log:
        "results/{experiment}/seed{seed}/aggregate.log",
    conda:
        "../../envs/clclip.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        folders=lambda wildcards, input: [
            str(Path(path).parent) for path in input.tasks
        ],
        dataset=lambda wildcards: PLAN.experiments[wildcards.experiment].dataset,
        protocol=lambda wildcards: PLAN.experiments[
            wildcards.experiment
        ].protocol_option,
        code=lambda wildcards: fingerprint("clclip.evaluation.aggregate"),
    shell:
        "clclip aggregate --tasks {params.folders:q} --experiment {wildcards.experiment:q}"
        " --dataset {params.dataset:q} {params.protocol} --out {output:q} --log {log:q}"


rule measure_unseen:
    input:
        seed_files("weights.safetensors"),
        last_inputs,
        tasks=seed_files("task.json"),
    output:
        "results/{experiment}/seed{seed}/unseen.json",
    log:
        "results/{experiment}/seed{seed}/unseen.log",
    conda:
        "../../envs/clclip.yaml"
    resources:
        mem_mb=8000,
        runtime=240,
        gpu=lambda wildcards: gpu(),
    params:
        run=lambda wildcards, output: str(Path(output[0]).parent),
        tasks=lambda wildcards: PLAN.experiments[wildcards.experiment].numbers[-1],
        code=lambda wildcards: fingerprint("clclip.model.unseen"),
    shell:
        "clclip unseen --run {params.run:q} --tasks {params.tasks:q} --out {output:q}"
        " --log {log:q}"


rule aggregate:
    input:
        seed_summaries,
    output:
        "results/{experiment}/summary.json",
    log:
        "results/{experiment}/aggregate.log",
    conda:
        "../../envs/clclip.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=lambda wildcards: fingerprint("clclip.evaluation.aggregate"),
    shell:
        "clclip aggregate --summaries {input:q} --out {output:q} --log {log:q}"


rule report:
    input:
        expand("results/{experiment}/summary.json", experiment=PLAN.experiments),
    output:
        page=report(
            "results/report.html",
            caption="../report/report.rst",
            category="Results",
        ),
        table=report(
            "results/summary.csv",
            caption="../report/summary.rst",
            category="Results",
        ),
    log:
        "results/report.log",
    conda:
        "../../envs/clclip.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        style=canonical(PLAN.report),
        code=lambda wildcards: fingerprint("clclip.report.page"),
        methods=canonical(names_of_methods()),
    shell:
        "clclip report --summaries {input:q} --style {params.style:q} --out {output.page:q}"
        " --log {log:q}"
