"""Can a model tell my classes apart?

Texts with a class each become a classifier: it stops when texts that were kept aside get no better, keeps the best
state, and is tested on texts that decided nothing, beside chance, counted words, and a linear model on frozen features.
Needs: labelled texts.

    ftkit run classify --model FOLDER --labelled reviews.csv#review,sentiment
    ftkit run classify --classes negative=neg.txt --classes positive=pos.txt
    ftkit predict runs/classify-TIME/models/classifier "It was fine."
"""

from pydantic import Field

from ftkit.recipe import EarlyStopSettings, RunFolder, launch, recipe


class ClassifySettings(EarlyStopSettings):
    """A classifier that stops early: the shared settings."""

    FAST = {**EarlyStopSettings.FAST, "max_steps": 30, "learning_rate": 2e-3, "schedule_steps": 0}

    max_grad_norm: float = Field(default=1.0, ge=0)
    """Global norm to which gradients are clipped; 0 does not clip."""


@recipe
def main(settings: ClassifySettings, run: RunFolder) -> None:
    """Texts, training with early stop, the test beside its baselines, report."""
    from ftkit.evidence import (
        ClassifierCase,
        classifier_finding,
        decide_classifier,
        feature_baseline,
        load_metrics,
        word_baseline,
    )  # fmt: skip
    from ftkit.jobs import finish, load_saved, prepare_classes, train_best_classifier
    from ftkit.tuning import check_tuning, movement, snapshot

    # Texts to learn from, to choose the step by, and to test on; and the start.
    classes, name = prepare_classes(settings, run, settings.validation_share), "classifier"
    settings, start, split = classes.settings, classes.new_model(), classes.split
    named = load_metrics(settings.metrics, len(classes.names), settings.trust_remote_code)
    trainable = check_tuning(classes.new_model(), settings)

    # Training; the best state so far is the one that is saved.
    train_best_classifier(run, name, classes, settings)
    if not run.is_main:
        return

    # The test, once, from the saved folder, beside what is simpler.
    tuned = load_saved(settings, run.model(name), "sequence-classification")
    predictions = {
        "untrained": classes.predict(start),
        "counted words": word_baseline(split.train, split.test, settings.seed),
        "frozen features": feature_baseline(
            start, classes.tokenizer, split.train, split.test, settings.window_tokens, settings.seed
        ),
        name: classes.predict(tuned),
    }
    scores = {who: classes.score(predicted) for who, predicted in predictions.items()}
    moved, result = movement(snapshot(start), tuned, trainable), run.result(name)
    difference = abs(float(classes.predict(tuned, classes.validation).nats.mean()) - result["best_loss"])
    measured = {who: score.as_dict() for who, score in scores.items()}
    measured[name] |= {"leaks": moved.leaks, "frozen": moved.frozen, "reload_difference": difference, **result}
    verdict = decide_classifier(
        ClassifierCase(
            predictions[name], predictions["untrained"] if classes.knows_classes else None, classes.seen,
            moved.changed, moved.leaks, difference,
        )
    )  # fmt: skip
    results = {
        "finding": classifier_finding(name, scores, predictions),
        "classifiers": measured,
        "named_metrics": {
            metric.name: {who: metric.compute(predicted) for who, predicted in predictions.items()} for metric in named
        },
        "mistakes": classes.mistakes(predictions[name]),
        "label_order": split.order,
        "headline": {"metric": "accuracy", "higher_is_better": True},
        "metrics": {name: scores[name].metrics(predictions[name])},
    }
    finish(run, results, {name: verdict.as_dict()})


if __name__ == "__main__":
    launch(main)
