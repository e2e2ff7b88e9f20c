// Without JavaScript the page is complete.

// A click on a column's head sorts the table by it, a second click reverses the order.
const NUMBER = /^[+-]?\d[\d,]*(\.\d+)?(e[+-]?\d+)?(?![\w.])/;

// By number where more than half of the cells begin with a number, other rows last; else by text.
function sorted(rows, column, reversed) {
  const text = (row) => row.cells[column].textContent;
  const number = (row) => parseFloat(text(row).match(NUMBER)?.[0].replaceAll(',', ''));
  const numbered = rows.filter((row) => !isNaN(number(row)));
  const numeric = 2 * numbered.length > rows.length;
  const found = numeric ? numbered.sort((a, b) => number(a) - number(b))
    : [...rows].sort((a, b) => text(a).localeCompare(text(b)));
  const others = numeric ? rows.filter((row) => isNaN(number(row))) : [];
  return [...(reversed ? found.reverse() : found), ...others];
}

for (const table of document.querySelectorAll('.table table')) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement('button');
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener('click', () => {
      const reversed = head.ariaSort === 'ascending';
      heads.forEach((other) => other.removeAttribute('aria-sort'));
      head.setAttribute('aria-sort', reversed ? 'descending' : 'ascending');
      table.tBodies[0].append(...sorted([...table.tBodies[0].rows], column, reversed));
    });
  });
}

// Content wider than the page fades at its right edge until it is scrolled to the end.
for (const wide of document.querySelectorAll('.table, nav ul')) {
  const look = () => wide.toggleAttribute('data-goes-on', wide.scrollLeft + wide.clientWidth < wide.scrollWidth - 1);
  wide.addEventListener('scroll', look);
  new ResizeObserver(look).observe(wide);
}
