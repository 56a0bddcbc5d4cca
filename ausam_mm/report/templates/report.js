'use strict';
// Draws the plots of the page, and switches its axes, lines and theme.
(() => {
  const root = document.documentElement;
  const all = (what) => [...document.querySelectorAll(what)];
  const content = (id) => document.getElementById(id)?.textContent;
  const figures = JSON.parse(content('plots') || '{}');
  const hidden = new Set();  // 'chapter setting'
  const axes = {};  // by chapter
  const DASHES = ['solid', 'dash', 'dot'];
  const SYMBOLS = ['circle', 'square', 'diamond', 'cross', 'triangle-up',
                   'star', 'x', 'pentagon'];

  const style = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const color = (i) => style(`--c${i % 8}`);
  const symbol = (i) => SYMBOLS[(i + Math.floor(i / 8)) % SYMBOLS.length];
  const shown = (figure, part) =>
    !hidden.has(`${figure.chapter} ${part.setting}`);

  // Breaks a name between words, so that it leaves room for the plot.
  const wrap = (text) => text.split(/(?<=[ /_-])/).reduce((lines, word) => {
    const last = lines.length - 1;
    if (last >= 0 && lines[last].length + word.trimEnd().length <= 18) {
      lines[last] += word;
    } else {
      lines.push(word);
    }
    return lines;
  }, []).map((part) => part.trimEnd().replace(/</g, '&lt;')).join('<br>');

  const errors = (row) => row.ends ? {
    type: 'data', symmetric: false, thickness: 1.5,
    array: [row.ends[1] - row.mean], arrayminus: [row.mean - row.ends[0]],
  } : undefined;

  const axisTitle = (chapter) => {
    const chosen = document.querySelector(
      `input[name=axis-${chapter}]:checked`);
    return chosen.parentElement.textContent.trim();
  };

  const TRACES = {
    curves: (figure) => figure.lines.filter(
      (line) => shown(figure, line)).map((line) => ({
      x: line.x[axes[figure.chapter] || 'epochs'], y: line.y, name: line.name,
      mode: line.y.length > 45 ? 'lines' : 'lines+markers',
      marker: {size: 5, symbol: symbol(line.color)},
      line: {color: color(line.color), width: 2, dash: line.finished ?
        DASHES[Math.floor(line.color / 8) % 3] : 'dash'},
    })),
    dots: (figure) => figure.rows.flatMap((row) => [{
      x: row.values, y: row.values.map(() => wrap(row.name)),
      mode: 'markers', name: row.name,
      marker: {color: color(row.color), opacity: 0.45, size: 7},
    }, {
      x: [row.mean], y: [wrap(row.name)], mode: 'markers', name: row.name,
      error_x: errors(row),
      marker: {color: color(row.color), size: 10, symbol: symbol(row.color)},
    }]),
    scatter: (figure) => figure.rows.map((row, i) => ({
      x: [figure.x[i]], y: [row.mean], mode: 'markers', name: row.name,
      error_y: errors(row), visible: shown(figure, row),
      marker: {color: color(row.color), size: 11, symbol: symbol(row.color)},
    })),
  };

  const line = (more) => ({
    gridcolor: style('--grid'), zerolinecolor: style('--grid'),
    linecolor: style('--grid'), automargin: true, ...more,
  });
  const LAYOUTS = {
    curves: (figure) => ({
      xaxis: line({title: {text: axisTitle(figure.chapter)}}),
      yaxis: line({title: {text: figure.title, standoff: 8}}),
    }),
    dots: (figure) => ({
      xaxis: line({title: {text: figure.title}, zeroline: false}),
      yaxis: line({autorange: 'reversed', type: 'category'}),
      height: 90 + figure.rows.length * Math.max(40, 8 + 15 * Math.max(
        ...figure.rows.map((row) => wrap(row.name).split('<br>').length))),
      shapes: figure.baseline === null ? [] : [{
        type: 'line', x0: figure.baseline, x1: figure.baseline, y0: 0, y1: 1,
        yref: 'paper', layer: 'below',
        line: {color: style('--quiet'), width: 1, dash: 'dot'}}],
    }),
    scatter: (figure) => ({
      xaxis: line({title: {text: figure.x_title}, zeroline: false}),
      yaxis: line({title: {text: figure.title, standoff: 8}, zeroline: false}),
    }),
  };

  const layout = (figure, width) => ({
    paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)',
    font: {color: style('--text'), size: 12, family: 'system-ui, sans-serif'},
    margin: {l: 45, r: 12, t: 12, b: 45}, showlegend: false, width,
    hoverlabel: {namelength: -1},
    // A finger that moves over a plot scrolls the page.
    dragmode: matchMedia('(pointer: coarse)').matches ? false : 'zoom',
    ...LAYOUTS[figure.kind](figure),
  });

  const draw = (width) => {
    all('.swatch').forEach((swatch) => {
      const i = Number(swatch.dataset.color);
      swatch.style.borderTopColor = color(i);
      swatch.style.borderTopStyle =
        ['solid', 'dashed', 'dotted'][Math.floor(i / 8) % 3];
    });
    if (!window.Plotly) {
      return;
    }
    Object.entries(figures).forEach(([id, figure]) => {
      window.Plotly.react(
        id, TRACES[figure.kind](figure), layout(figure, width),
        {responsive: true, displaylogo: false,
         modeBarButtonsToRemove: ['select2d', 'lasso2d', 'autoScale2d']});
    });
  };

  const theme = (name) => {
    root.dataset.theme = name;
    document.getElementById('theme').textContent =
      name === 'dark' ? 'Light theme' : 'Dark theme';
  };
  const preferred = matchMedia('(prefers-color-scheme: dark)');
  theme(preferred.matches ? 'dark' : 'light');
  preferred.addEventListener('change', () => {
    theme(preferred.matches ? 'dark' : 'light');
    draw();
  });
  document.getElementById('theme').addEventListener('click', () => {
    theme(root.dataset.theme === 'dark' ? 'light' : 'dark');
    draw();
  });

  all('.axis input').forEach((input) => {
    axes[input.dataset.chapter] ||= 'epochs';
    input.addEventListener('change', () => {
      axes[input.dataset.chapter] = input.value;
      draw();
    });
  });
  all('.legend button').forEach((button) => {
    const key = `${button.dataset.chapter} ${button.dataset.setting}`;
    button.addEventListener('click', () => {
      hidden[hidden.has(key) ? 'delete' : 'add'](key);
      all('.legend button').filter((other) => key ===
        `${other.dataset.chapter} ${other.dataset.setting}`).forEach(
        (other) => other.setAttribute('aria-pressed', !hidden.has(key)));
      draw();
    });
  });

  // Paper is white, and as wide as it is.
  let before = '';
  addEventListener('beforeprint', () => {
    before = root.dataset.theme;
    theme('light');
    draw(660);
  });
  addEventListener('afterprint', () => {
    theme(before);
    draw();
  });

  // plotly.js lies in the page, gzipped.
  const inflate = async () => {
    const bytes = Uint8Array.from(
      atob(content('plotly')), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(
      new DecompressionStream('gzip'));
    const script = document.createElement('script');
    script.textContent = await new Response(stream).text();
    document.head.append(script);
    draw();
    root.dataset.ready = 'true';
  };

  root.classList.add('live');
  draw();
  if (content('plotly')) {
    inflate().catch((error) => {
      const place = document.getElementById('trouble');
      place.textContent = 'This browser cannot draw the plots ' +
        `(${error.message}). Everything they show is in the tables.`;
      place.hidden = false;
    });
  }
})();
