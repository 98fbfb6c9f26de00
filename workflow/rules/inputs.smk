# Resources that tasks share: data sets, CLIPs, text embeddings, features. Ids say their content.


rule prepare_data:
    output:
        "resources/data/{data}/index.json",
    log:
        "resources/data/{data}/prepare.log",
    benchmark:
        "resources/data/{data}/prepare.tsv"
    conda:
        "../../envs/clclip.yaml"
    resources:
        mem_mb=2000,
        runtime=120,
    params:
        # functions of the output are not compared by Snakemake: the id tells of all but the place
        spec=lambda wildcards, output: canonical(PLAN.data[wildcards.data]),
        folder=subpath(output[0], parent=True),
        classes=lambda wildcards, output: canonical(classes_of_data(wildcards.data)),
    shell:
        "clclip prepare --spec {params.spec:q} --classes {params.classes:q} --out {params.folder:q} --log {log:q}"


rule fetch_clip:
    output:
        "resources/clip/{clip}/clip.json",
        "resources/clip/{clip}/clip.safetensors",
    log:
        "resources/clip/{clip}/fetch.log",
    conda:
        "../../envs/clclip.yaml"
    resources:
        mem_mb=8000,
        runtime=60,
    params:
        clip=lambda wildcards, output: canonical(PLAN.clips[wildcards.clip]),
        folder=subpath(output[0], parent=True),
    shell:
        "clclip fetch-clip --clip {params.clip:q} --out {params.folder:q} --log {log:q}"


# Not part of the main job, whose weights ship: snakemake --cores all resources/pretrained/seed1/embedded.safetensors
rule pretrain_clip:
    output:
        "resources/pretrained/seed{seed}/{model}.safetensors",
    log:
        "resources/pretrained/seed{seed}/{model}.log",
    benchmark:
        "resources/pretrained/seed{seed}/{model}.tsv"
    conda:
        "../../envs/clclip.yaml"
    threads: 2
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        folder=subpath(output[0], parent=True),
    shell:
        "clclip pretrain-clip --name {wildcards.model:q}"
        " --seed {wildcards.seed} --out {params.folder:q} --log {log:q}"


# The parts of a model that a stream goes on from, beside the tasks that it will learn
rule take_over_model:
    output:
        "results/{experiment}/seed{seed}/start.json",
    log:
        "results/{experiment}/seed{seed}/start.log",
    conda:
        "../../envs/clclip.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        model=lambda wildcards: str(PLAN.experiments[wildcards.experiment].start.place),
        digest=lambda wildcards: PLAN.experiments[wildcards.experiment].start.card[
            "digest"
        ],
    shell:
        "clclip take-over --model {params.model:q} --digest {params.digest:q}"
        " --out {output:q} --log {log:q}"


rule embed_text:
    input:
        ancient(lambda w: f"resources/clip/{PLAN.texts[w.text]['clip']}/clip.json"),
    output:
        "resources/text/{text}.safetensors",
    log:
        "resources/text/{text}.log",
    conda:
        "../../envs/clclip.yaml"
    resources:
        mem_mb=8000,
        runtime=30,
    params:
        names=lambda wildcards: canonical(PLAN.texts[wildcards.text]["names"]),
        template=lambda wildcards: sentence_of(wildcards),
        model=lambda wildcards: model_of(wildcards),
        clip=subpath(input[0], parent=True),
    shell:
        "clclip embed-text --clip {params.clip:q} --names {params.names:q}"
        " {params.template:q} {params.model:q} --out {output:q} --log {log:q}"


rule extract_features:
    input:
        data=ancient(lambda w: f"resources/data/{features_of(w)['data']}/index.json"),
        clip=ancient(lambda w: f"resources/clip/{features_of(w)['clip']}/clip.json"),
    output:
        "resources/features/{features}/{split}/done.json",
    log:
        "resources/features/{features}/{split}.log",
    benchmark:
        "resources/features/{features}/{split}.tsv"
    conda:
        "../../envs/clclip.yaml"
    resources:
        mem_mb=16000,
        runtime=720,
        gpu=lambda wildcards: gpu(),
    params:
        data=subpath(input.data, parent=True),
        clip=subpath(input.clip, parent=True),
        folder=subpath(output[0], parent=True),
        size=lambda wildcards: features_of(wildcards)["size"],
        dense=lambda wildcards: features_of(wildcards)["dense"],
        taps=lambda wildcards: ",".join(map(str, features_of(wildcards)["taps"])),
        # mirrored test images are for classifiers that average both views
        flip=lambda wildcards: (
            "--flip"
            if features_of(wildcards)["flip"]
            and (
                wildcards.split == "train"
                or features_of(wildcards)["dense"] in ("image", "moments")
            )
            else ""
        ),
    shell:
        "clclip features --data {params.data:q} --clip {params.clip:q}"
        " --split {wildcards.split} --size {params.size} --dense {params.dense:q}"
        " --taps={params.taps} {params.flip} --out {params.folder:q} --log {log:q}"
