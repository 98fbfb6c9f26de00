"""The commands that people call: compare, look, use a trained model, describe what would run."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from clclip.core.errors import InputError
from clclip.core.files import check_writable, write_text
from clclip.workflow.cache import chosen, entries, evict


def compare(options: argparse.Namespace) -> None:
    """Compare two experiments' final scores on the same test images."""
    from clclip.evaluation.compare import as_text, find_result
    from clclip.evaluation.compare import compare as run

    if options.samples < 2:
        raise InputError(f"got {options.samples}", "--samples", "a number from 2")
    sides = (find_result(path) for path in (options.a, options.b))
    found = run(*sides, samples=options.samples)
    print(json.dumps(asdict(found), indent=1) if options.json else as_text(found).rstrip())


def watch(options: argparse.Namespace) -> None:
    """Show a running workflow until it has ended or the reader presses Ctrl-C."""
    from clclip.report.watch import watch as run

    run(options.results, options.once, options.every, lambda text: print(text, flush=True))


def detect(options: argparse.Namespace) -> None:
    """Detect objects in images."""
    check_writable(options.out, folder=True)
    from clclip.detection.tools.detect import detect as run

    chosen = (options.task, options.classes, options.threshold, options.resources)
    run(options.run, options.images, options.out, *chosen)


def classify(options: argparse.Namespace) -> None:
    """Classify images."""
    check_writable(options.out)
    from clclip.classification.tools.classify import classify as run

    chosen = (options.task, options.top_k, options.resources)
    run(options.run, options.images, options.out, *chosen)


def export(options: argparse.Namespace) -> None:
    """Write one weights file and its card."""
    from clclip.detection.tools.export import export as run

    run(options.run, options.out, options.task)


def list_names(options: argparse.Namespace) -> None:
    """Print the streams, methods and variants that names are made of."""
    from clclip.config.listing import listing

    print(listing(options.word))


def describe(options: argparse.Namespace) -> None:
    """Tell what an experiment would run and need."""
    if options.yaml:
        from clclip.config.listing import resolved_yaml

        return print(resolved_yaml(options.experiment, options.data_root), end="")
    from clclip.workflow.describe import describe as run
    from clclip.workflow.describe import text

    chosen = (options.data_root, options.seeds, options.check_images)
    described = run(options.experiment, *chosen)
    print(json.dumps(described, indent=1) if options.json else text(described))


def schema(options: argparse.Namespace) -> None:
    """Print or write the JSON schema of the config files."""
    from clclip.config.schema import schema_text

    if options.out is not None:
        return write_text(options.out, schema_text())
    print(schema_text(), end="")


def completion(options: argparse.Namespace) -> None:
    """Print a shell's completion script."""
    from clclip.cli.completion import script
    from clclip.cli.parser import build_parser

    print(script(options.shell, build_parser()), end="")


def cache(options: argparse.Namespace) -> None:
    """List the caches of a working directory, or delete some of their entries."""
    found = [e for e in entries(options.resources) if options.kind in (None, e.kind)]
    if options.action == "evict":
        found = chosen(
            found,
            options.resources,
            options.ids,
            options.all,
            options.left_over,
            options.older_than,
        )
        for entry in found:
            evict(options.resources / entry.kind / entry.id)
    elif options.ids or options.all or options.left_over or options.older_than is not None:
        raise InputError("a choice of entries", "cache list", "it with `cache evict`, or --kind")
    if options.json:
        print(json.dumps([asdict(entry) for entry in found], indent=1))
        return
    for entry in found:
        size = f"{entry.bytes / 1e6:10.1f} MB  {entry.days:6.1f} days old"
        print(f"{size}  {entry.state:9}  {entry.kind:8}  {entry.id}")
    total = sum(entry.bytes for entry in found) / 1e6
    verb = "evicted" if options.action == "evict" else "in all"
    print(f"{total:10.1f} MB {verb}, {len(found)} entries")
