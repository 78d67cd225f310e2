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
