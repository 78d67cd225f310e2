"""Can a model learn to tell your classes of texts apart, and is it better than a simple method?

Texts with a class each become a classifier: it stops when texts that were kept aside get no better, keeps the best
state, and is tested on texts that decided nothing, beside chance, counted words, and a linear model on frozen features.

    ftkit run classify --model FOLDER --labelled reviews.csv#review,sentiment
    ftkit run classify --model FOLDER --classes negative=neg.txt --classes positive=pos.txt
    ftkit predict runs/classify-TIME/models/classifier "It was fine."
"""

from pydantic import Field

from ftkit.config import ClassifierSettings, launch


class ClassifySettings(ClassifierSettings):
    """A classifier: the shared settings, and when to stop."""

    FAST = {
        "classes": {"keeper": "voices:keeper:9000", "almanac": "voices:almanac:12000"}, "tokenizer": "train:512",
        "max_steps": 30, "window_tokens": 48, "per_device_train_batch_size": 16, "gradient_accumulation_steps": 1,
        "learning_rate": 2e-3, "optimizer": "adamw", "warmup_steps": 0.1, "schedule_steps": 0, "clip_after": 0,
        "texts_per_class": 0, "eval_steps": 10, "save_steps": 10, "eval_texts": 60,
    }  # fmt: skip

    validation_share: float = Field(default=0.1, gt=0, lt=0.5)
    """Share of the texts to learn from that is kept aside to find the best step; the test set decides nothing."""
    patience: int = Field(default=3, ge=0)
    """Looks (every eval_steps) without a lower loss on these texts after which training stops; 0: it does not."""
    max_grad_norm: float = Field(default=1.0, ge=0)
    """Global norm to which gradients are clipped; 0 does not clip."""


def main(settings: ClassifySettings) -> None:
    """Texts, training with early stop, the test beside its baselines, report."""
    from ftkit.evidence import classifier_finding, feature_baseline, load_metrics, word_baseline
    from ftkit.models import save_model
    from ftkit.report import announce
    from ftkit.runs import open_run
    from ftkit.studies import finish, load_saved, prepare_classes
    from ftkit.training import CLASSIFICATION, BestStep, CheckpointFolder, Engine, build_probes, follow_classifier
    from ftkit.tuning import check_tuning, movement, snapshot

    with open_run(settings, __file__) as run:
        if run.finished:
            announce(run)
            return

        # Texts to learn from, to choose the step by, and to test on; and the start.
        classes = prepare_classes(settings, run, settings.validation_share)
        settings, start = classes.settings, classes.new_model()
        named = load_metrics(settings.metrics, len(classes.names), settings.trust_remote_code)
        trainable = check_tuning(classes.new_model(), settings)

        # Training; the best state so far is the one that is saved.
        name = "classifier"
        if run.sealed(name) is None:
            model = classes.new_model()
            checkpoints = CheckpointFolder(run.checkpoints(name), settings.save_total_limit)
            probes = build_probes(settings, model)
            with Engine(model, CLASSIFICATION, classes.source, settings, checkpoints) as engine:
                run.rewind(name, engine.step or -1)  # what a killed run logged after its checkpoint comes again
                best = BestStep(run, name, settings)
                for record in follow_classifier(
                    engine, run, name, classes.source, classes.samples, classes.tokenizer, probes
                ):
                    if best.improved(record.step):
                        with engine.whole_model():
                            if run.is_main:
                                save_model(model, classes.tokenizer, run.model(name))
                    if best.stop:
                        break
            run.seal(name, best_step=best.step, last_step=engine.step, best_loss=best.loss)

        # The test, once, from the saved folder, beside what is simpler.
        if not run.is_main:
            return
        tuned = load_saved(settings, run.model(name), "sequence-classification")
        said = {
            "untrained": classes.predict(start),
            "counted words": word_baseline(classes.split.train, classes.split.test, settings.seed),
            "frozen features": feature_baseline(
                start, classes.tokenizer, classes.split.train, classes.split.test, settings.window_tokens, settings.seed
            ),
            name: classes.predict(tuned),
        }
        scores = {who: classes.score(predictions) for who, predictions in said.items()}
        moved = movement(snapshot(start), tuned, trainable)
        measured = {who: score.as_dict() for who, score in scores.items()}
        again = classes.predict(tuned, classes.validation).nats.mean()
        difference = abs(float(again) - run.result(name)["best_loss"])
        measured[name] |= {"leaks": moved.leaks, "frozen": moved.frozen, "reload_difference": difference}
        measured[name] |= run.result(name)
        finish(
            run,
            {
                "finding": classifier_finding(name, scores, said),
                "classifiers": measured,
                "named_metrics": {
                    metric.name: {who: metric.compute(predictions) for who, predictions in said.items()}
                    for metric in named
                },
                "mistakes": classes.mistakes(said[name]),
                "label_order": classes.split.order,
                "headline": {"metric": "accuracy", "higher_is_better": True},
                "metrics": {name: scores[name].metrics(said[name])},
            },
        )


if __name__ == "__main__":
    launch(main)
