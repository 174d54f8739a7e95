"""`python -m miniature_training`: train, evaluate and look at the miniatures; fit previews; draw the images."""

from __future__ import annotations

import argparse
from pathlib import Path

from miniature_training.models.store import scratch


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m miniature_training", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    train = verbs.add_parser("train", help="train one miniature")
    train.add_argument("name")
    train.add_argument("--minutes", type=float, default=30)
    train.add_argument("--steps", type=int, help="stop after this many steps instead (repeatable)")
    train.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    train.add_argument("--decay", action="store_true", help="the last run: the rate falls to zero")
    grow = verbs.add_parser("grow", help="give a UNet more channels, so that it does what it did")
    grow.add_argument("component")
    grow.add_argument("widths", type=int, nargs="+")
    pool = verbs.add_parser("pool", help="draw and encode what the UNets learn from; may run beside their training")
    pool.add_argument("--shards", type=int, default=50, help="thousands of images")
    box = verbs.add_parser("family", help="train all that paints on one GPU: first `bases`, then `rest`")
    box.add_argument("box", choices=("prepare", "bases", "rest"))
    box.add_argument("--minutes", type=float, default=6)
    evaluate = verbs.add_parser("evaluate", help="measure miniatures on held-out scenes")
    evaluate.add_argument("names", nargs="*")
    evaluate.add_argument("--dry", action="store_true", help="print the figures, keep none")
    sheet = verbs.add_parser("sheet", help="draw sample sheets to look at")
    sheet.add_argument("names", nargs="*")
    sheet.add_argument("--to", type=Path, default=scratch() / "sheets", help="folder for the images")
    verbs.add_parser("images", help="draw data/pictures again")
    verbs.add_parser("preview", help="fit the maps from latents to colours; again after a VAE was trained")
    verbs.add_parser("card", help="write the model card from the figures")
    arguments = parser.parse_args(argv)
    if arguments.verb == "train":
        from miniature_training.models.loop import join
        from miniature_training.registry import FALLING, RECIPES

        _known(parser, [arguments.name], RECIPES)
        if arguments.decay and arguments.name not in FALLING:
            parser.error(
                f"{arguments.name!r} has no last run: leave out --decay; {', '.join(sorted(FALLING))} have one"
            )
        join()
        more = {"last": True} if arguments.decay else {}
        RECIPES[arguments.name](minutes=arguments.minutes, steps=arguments.steps, resume=arguments.resume, **more)
    elif arguments.verb == "grow":
        from miniature_training.models.growth import grow_component

        print(grow_component(arguments.component, tuple(arguments.widths)))
    elif arguments.verb == "pool":
        from miniature_training.models.latent_pool import fill

        fill(arguments.shards)
    elif arguments.verb == "family":
        from miniature_training import family

        family.prepare() if arguments.box == "prepare" else family.train(arguments.box, minutes=arguments.minutes)
    elif arguments.verb == "evaluate":
        from miniature_training.evaluation.scores import EVALUATIONS, evaluate

        _known(parser, arguments.names, EVALUATIONS)
        evaluate(arguments.names, save=not arguments.dry)
    elif arguments.verb == "sheet":
        from miniature_training.evaluation.sheets import SHEETS, write

        _known(parser, arguments.names, SHEETS)
        write(arguments.names, arguments.to)
    elif arguments.verb == "preview":
        from miniature_training.recipes.previews import fit_all

        fit_all()
    elif arguments.verb == "card":
        from miniature_training.evaluation.model_card import write as write_card

        print(write_card())
    else:
        from miniature_training.world.gallery import draw_all

        draw_all()


def _known(parser: argparse.ArgumentParser, names: list[str], table: dict) -> None:
    for name in names:
        if name not in table:
            parser.error(f"there is nothing to do for {name!r}; there is: {', '.join(table)}")


if __name__ == "__main__":
    main()
