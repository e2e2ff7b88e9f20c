// Without JavaScript nothing is missing.

// A click on a column's head sorts the table by it, a second click turns the order.
const NUMBER = /^[+-]?\d[\d,]*(\.\d+)?(e[+-]?\d+)?(?![\w.])/;

// By number where more than half of the cells begin with one, rows without come last; else by text.
function sorted(rows, column, turned) {
  const text = (row) => row.cells[column].textContent;
  const number = (row) => parseFloat(text(row).match(NUMBER)?.[0].replaceAll(',', ''));
  const numbered = rows.filter((row) => !isNaN(number(row)));
  const numeric = 2 * numbered.length > rows.length;
  const found = numeric ? numbered.sort((a, b) => number(a) - number(b))
    : [...rows].sort((a, b) => text(a).localeCompare(text(b)));
  const others = numeric ? rows.filter((row) => isNaN(number(row))) : [];
  return [...(turned ? found.reverse() : found), ...others];
}

for (const table of document.querySelectorAll('.table table')) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement('button');
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener('click', () => {
      const turned = head.ariaSort === 'ascending';
      heads.forEach((other) => other.removeAttribute('aria-sort'));
      head.setAttribute('aria-sort', turned ? 'descending' : 'ascending');
      table.tBodies[0].append(...sorted([...table.tBodies[0].rows], column, turned));
    });
  });
}

// What is wider than the page fades at its right edge until it is scrolled to the end.
for (const wide of document.querySelectorAll('.table, figure > div[role]')) {
  const look = () => wide.toggleAttribute('data-goes-on', wide.scrollLeft + wide.clientWidth < wide.scrollWidth - 1);
  wide.addEventListener('scroll', look);
  new ResizeObserver(look).observe(wide);
}

// Where one points into a figure's axes, the values there are told beside the pointer.
function valueAt(share, side) {
  const value = side.logarithmic ? side.low * (side.high / side.low) ** share : side.low + (side.high - side.low) * share;
  return `${side.label}: ${value.toLocaleString('en', { maximumSignificantDigits: 3 })}`;
}

for (const figure of document.querySelectorAll('[data-readable]')) {
  const all = JSON.parse(figure.dataset.readable), svg = figure.querySelector('svg');
  const told = document.createElement('div');
  told.className = 'values';
  told.ariaHidden = 'true';
  told.hidden = true;
  figure.append(told);
  svg.addEventListener('pointermove', (event) => {
    const place = svg.getBoundingClientRect();
    const x = (event.clientX - place.left) / place.width, y = (event.clientY - place.top) / place.height;
    const axes = all.find((one) => one.left <= x && x <= one.right && one.top <= y && y <= one.bottom);
    told.hidden = !axes;
    if (!axes) return;
    told.innerText = [valueAt((x - axes.left) / (axes.right - axes.left), axes.x),
      valueAt((axes.bottom - y) / (axes.bottom - axes.top), axes.y)].join('\n');
    told.style.left = `${Math.max(0, Math.min(event.clientX + 12, innerWidth - told.offsetWidth - 20))}px`;
    told.style.top = `${event.clientY + 16}px`;
  });
  svg.addEventListener('pointerleave', () => { told.hidden = true; });
}
