// Shows the rows that fit all filters, and says how many those are.
(() => {
  const items = [...document.querySelectorAll("#rows .item")].map((element) => ({
    element,
    text: element.textContent.toLowerCase(),
  }));
  const [search, set, outcome] = ["search", "set", "outcome"].map((id) => document.getElementById(id));
  const shown = document.getElementById("shown");
  const fits = ({ element, text }) =>
    text.includes(search.value.toLowerCase()) &&
    (!set.value || element.dataset.set === set.value) &&
    (!outcome.value || element.dataset.outcomes.split(" ").includes(outcome.value));
  const filter = () => {
    let number = 0;
    for (const item of items) {
      item.element.hidden = !fits(item);
      number += item.element.hidden ? 0 : 1;
    }
    shown.textContent = `${number} of ${items.length} shown`;
  };
  for (const control of [search, set, outcome]) {
    control.addEventListener("input", filter);
  }
  filter();
})();
