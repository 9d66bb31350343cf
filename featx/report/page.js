"use strict";
// The behaviour of the page: cells open, points show their image, tables can be sorted. Names of
// files and classes are inserted as text, never as HTML.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);

  function make(name, className, text) {
    const element = document.createElement(name);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  }

  function card(number) {
    const image = data.images[number];
    const figure = make("figure", "card");
    const thumb = make("span", image.bare ? "thumb bare" : "thumb");
    thumb.style.setProperty("--x", number % data.columns);
    thumb.style.setProperty("--y", Math.floor(number / data.columns));
    thumb.setAttribute("role", "img");
    thumb.setAttribute("aria-label", image.path);
    const caption = make("figcaption");
    if (image.predicted === undefined) {
      const label = make("span");
      label.append(make("b", "", image.label));
      caption.append(label);
    } else {
      const isRight = image.predicted === image.label;
      const predicted = make("span", isRight ? "right" : "wrong");
      predicted.append(make("b", "", image.predicted), ` ${Math.round(100 * image.p)}\u00a0%`);
      caption.append(predicted);
      if (!isRight) caption.append(make("span", "", `true class: ${image.label}`));
    }
    caption.append(make("span", "path", image.path));
    figure.append(thumb, caption);
    return figure;
  }

  // Enter and the space bar do not click a button of an SVG by themselves.
  function onPress(root, act) {
    root.addEventListener("click", (event) => {
      const button = event.target.closest("[data-key]");
      if (button) act(button);
    });
    root.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      const button = event.target.closest("svg [data-key]");
      if (!button) return;
      event.preventDefault();
      act(button);
    });
  }

  function middle(element) {
    const box = element.getBoundingClientRect();
    return [box.x + box.width / 2, box.y + box.height / 2];
  }

  // The tab key reaches one button of an SVG; arrow keys lead to the nearest one in that direction.
  function walkByArrows(root) {
    const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    root.addEventListener("keydown", (event) => {
      const way = ways[event.key];
      const from = event.target.closest("svg [data-key]");
      if (!way || !from) return;
      event.preventDefault();
      const [x, y] = middle(from);
      let nearest = null;
      let least = Infinity;
      for (const other of root.querySelectorAll("svg [data-key]")) {
        const [a, b] = middle(other);
        const along = (a - x) * way[0] + (b - y) * way[1];
        const aside = Math.abs((a - x) * way[1]) + Math.abs((b - y) * way[0]);
        if (along > 0.5 && along + 2 * aside < least) {
          least = along + 2 * aside;
          nearest = other;
        }
      }
      if (!nearest) return;
      nearest.focus();
    });
    root.addEventListener("focusin", (event) => {
      const own = event.target.closest("svg [data-key]");
      if (!own) return;
      for (const other of root.querySelectorAll('svg [data-key][tabindex="0"]')) {
        other.setAttribute("tabindex", "-1");
      }
      own.setAttribute("tabindex", "0");
    });
  }

  const confusion = document.getElementById("confusion");
  const panel = document.getElementById("cell");
  if (confusion && panel) {
    const open = (button) => {
      const cell = data.cells[button.dataset.key];
      if (!cell) return;
      for (const other of confusion.querySelectorAll("[data-key]")) {
        other.setAttribute("aria-pressed", other.dataset.key === button.dataset.key);
      }
      const cards = make("div", "cards");
      cards.append(...cell.images.map(card));
      panel.classList.add("open");
      panel.replaceChildren(make("h3", "", cell.description), cards);
      if (cell.images.length < cell.n) {
        const note = `The ${cell.images.length} most confident are shown.`;
        panel.append(make("p", "caption", note));
      }
      if (!button.ownerSVGElement) panel.scrollIntoView({ block: "nearest" });
    };
    onPress(confusion, open);
    walkByArrows(document.getElementById("matrix"));
  }

  const plane = document.getElementById("plane");
  const hover = document.getElementById("hover");
  if (plane) {
    const svg = plane.querySelector("svg");
    const hide = () => {
      hover.hidden = true;
      svg.classList.remove("lit");
    };
    const place = (point) => {
      const at = point.getBoundingClientRect();
      const own = hover.getBoundingClientRect();
      const left = Math.min(at.right + 10, window.innerWidth - own.width - 8);
      const below = at.bottom + 10;
      const top = below + own.height < window.innerHeight ? below : at.top - own.height - 10;
      hover.style.left = `${Math.max(8, left)}px`;
      hover.style.top = `${Math.max(8, top)}px`;
    };
    const show = (event) => {
      const point = event.target.closest("[data-key]");
      if (!point) return;
      hover.replaceChildren(card(Number(point.dataset.key)));
      hover.hidden = false;
      for (const same of svg.querySelectorAll(".same")) same.classList.remove("same");
      for (const same of point.parentNode.querySelectorAll("[data-key]")) same.classList.add("same");
      svg.classList.add("lit");
      place(point);
    };
    for (const name of ["pointerover", "focusin", "click"]) plane.addEventListener(name, show);
    for (const name of ["pointerout", "focusout"]) plane.addEventListener(name, hide);
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape") hide();
    });
    // If a point that was reached with the keyboard scrolls into view, its image moves with it.
    const follow = () => {
      const point = document.activeElement.closest("#plane [data-key]");
      if (point && !hover.hidden) place(point);
      else hide();
    };
    document.addEventListener("scroll", follow, { capture: true, passive: true });
    walkByArrows(plane);
  }

  for (const button of document.querySelectorAll("th button[data-sort]")) {
    button.addEventListener("click", () => {
      const head = button.closest("th");
      const place = head.cellIndex;
      const isNumber = button.dataset.sort === "number";
      // The first click sorts numbers from the largest, and text from A.
      const first = isNumber ? "descending" : "ascending";
      const other = isNumber ? "ascending" : "descending";
      const way = head.getAttribute("aria-sort") === first ? other : first;
      for (const each of head.parentNode.cells) each.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", way);
      const body = head.closest("table").tBodies[0];
      const value = (row) => row.cells[place].dataset.value;
      const rows = [...body.rows].sort((a, b) =>
        isNumber ? value(a) - value(b) : value(a).localeCompare(value(b), "en", { numeric: true }),
      );
      body.append(...(way === "ascending" ? rows : rows.reverse()));
    });
  }
})();
