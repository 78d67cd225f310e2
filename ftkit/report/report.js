"use strict";
// Without this script every step stands in a <details>; with it a slider shows one step at a time.
// The address names it (#model=alice&step=100), so that a moment of the training can be linked.
const boxes = new Map();

function show(box, index) {
  box.slider.value = index;
  box.steps.forEach((step, place) => {
    step.hidden = place !== index;
    step.open = place === index;
  });
  const said = box.steps[index].querySelector("summary").textContent.replace(/\s+/g, " ").trim();
  box.slider.setAttribute("aria-valuetext", said);
  box.output.textContent = said;
}

function follow() {
  const asked = new URLSearchParams(location.hash.slice(1));
  const box = boxes.get(asked.get("model"));
  if (!box) return;
  const index = box.steps.findIndex((step) => step.dataset.step === asked.get("step"));
  show(box, index < 0 ? box.steps.length - 1 : index);
  box.element.scrollIntoView();
}

for (const element of document.querySelectorAll("[data-model]")) {
  const box = {
    element,
    slider: element.querySelector("input[type=range]"),
    output: element.querySelector("output"),
    steps: [...element.querySelectorAll("[data-step]")],
  };
  if (!box.slider) continue;
  boxes.set(element.dataset.model, box);
  element.classList.add("live");
  element.querySelector(".slider").hidden = false;
  show(box, box.steps.length - 1);
  box.slider.addEventListener("input", () => {
    const index = Number(box.slider.value);
    show(box, index);
    const place = new URLSearchParams({ model: element.dataset.model, step: box.steps[index].dataset.step });
    history.replaceState(null, "", `#${place}`);
  });
}
follow();
addEventListener("hashchange", follow);

// Without this script each passage of the blind test says what it is when asked; with it, answers are counted.
for (const test of document.querySelectorAll(".blind")) {
  const questions = [...test.querySelectorAll("fieldset")];
  const score = test.querySelector(".score");
  let right = 0;
  let answered = 0;
  for (const question of questions) {
    const truth = question.querySelector(".truth");
    truth.hidden = true;
    question.querySelector(".choice").hidden = false;
    for (const button of question.querySelectorAll("button")) {
      button.addEventListener("click", () => {
        const hit = button.value === question.dataset.truth;
        right += hit;
        answered += 1;
        question.disabled = true;
        button.setAttribute("aria-pressed", "true");
        truth.hidden = false;
        truth.open = true;
        truth.querySelector("summary").textContent = hit ? "Right." : "Wrong.";
        score.hidden = false;
        score.textContent = `${right} of ${answered} right` + (answered < questions.length ? "." : verdict(test, right, answered));
      });
    }
  }
}

function verdict(test, right, answered) {
  const better = Number(test.dataset.better);
  if (right >= better) return `: you can tell them apart (who guesses gets ${better} or more in one test of twenty at most).`;
  return `: ${better} or more would be better than guessing, which gets ${answered / 2} on average.`;
}

// On paper nothing can be opened.
addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details:not(.truth):not(.blind)")) folded.open = true;
});
