"""Can a model tell my classes apart?

Texts with a class each become a classifier: it stops when texts that were kept aside get no better, keeps the best
state, and is tested on texts that decided nothing, beside chance, counted words, and a linear model on frozen features.
Needs: labelled text. Minutes: 1.

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
    from ftkit.evidence import load_metrics
    from ftkit.jobs import ClassifierBench, finish, load_saved, prepare_classes, train_best_classifier
    from ftkit.tuning import check_tuning

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
    bench, result = ClassifierBench(classes, start), run.result(name)
    tuned = load_saved(settings, run.model(name), "sequence-classification")
    tested = bench.measure(tuned, trainable, result["best_loss"])
    measured = bench.results({name: tested})
    measured["classifiers"][name] |= result
    predictions = {**bench.simpler, name: tested.predictions}
    results = {
        **measured,
        "named_metrics": {
            metric.name: {who: metric.compute(said) for who, said in predictions.items()} for metric in named
        },
        "label_order": split.order,
        "headline": {"metric": "accuracy", "higher_is_better": True},
        "metrics": {name: tested.scores.metrics(tested.predictions)},
    }
    finish(run, results, {name: tested.verdict.as_dict()})


if __name__ == "__main__":
    launch(main)
