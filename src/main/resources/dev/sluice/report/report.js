// Draws the figures of a report from the JSON beside them, and makes tables sort. Colours come from
// the style sheet, so that light, dark and print agree. A figure's function draws it and gives what
// draws it again with other data, and what forgets it: `update` and `dispose`.
(() => {
  'use strict';

  const dark = matchMedia('(prefers-color-scheme: dark)');
  const charts = new Set();
  const element = (tag, className, text) => {
    const e = document.createElement(tag);
    if (className) e.className = className;
    if (text !== undefined) e.textContent = text;
    return e;
  };
  const style = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const armVariable = arm => `var(--arm${arm.colour % 8})`;
  const armColour = arm => style(`--arm${arm.colour % 8}`);
  const isRepeated = arm => arm.colour >= 8; // the colours ran out: dashes tell the arms apart
  const isNumber = v => typeof v === 'number' && Number.isFinite(v);

  function format(v, digits = 4) {
    if (!isNumber(v)) return 'no value';
    if (v === 0) return '0';
    const size = Math.abs(v);
    if (size < 1e-4 || size >= 1e9) return v.toExponential(Math.max(0, digits - 1)).replace(/\.?0+e/, 'e');
    const whole = Number.isInteger(v) ? {} : { maximumSignificantDigits: digits };
    if (size >= 10 ** digits) return v.toLocaleString('en-US', { maximumFractionDigits: 0 });
    return v.toLocaleString('en-US', whole);
  }

  // ---- One tooltip for all figures; text goes in as text nodes, never as markup.
  const tip = element('div', 'tip');
  tip.hidden = true;
  tip.setAttribute('aria-hidden', 'true');
  document.body.append(tip);

  function tipContent(heading, rows) {
    const content = element('div', 'tip-content');
    content.append(element('b', '', heading));
    const table = element('table');
    for (const row of rows) {
      const tr = element('tr');
      const name = element('td');
      if (row.colour) {
        const swatch = element('i');
        swatch.style.setProperty('--colour', row.colour);
        name.append(swatch);
      }
      name.append(row.name);
      const value = element('td', '', row.value);
      tr.append(name, value);
      if (rows.some(r => r.more)) tr.append(element('td', 'interval', row.more || ''));
      table.append(tr);
    }
    if (rows.length) content.append(table);
    return content;
  }

  function showTip(event, heading, rows) {
    tip.replaceChildren(tipContent(heading, rows));
    tip.hidden = false;
    const { width, height } = tip.getBoundingClientRect();
    const right = event.clientX + 16 + width > document.documentElement.clientWidth;
    const left = right ? event.clientX - 12 - width : event.clientX + 16;
    tip.style.left = `${Math.max(4, left)}px`;
    tip.style.top = `${Math.max(4, Math.min(event.clientY + 14, innerHeight - height - 4))}px`;
  }
  const hideTip = () => { tip.hidden = true; };
  addEventListener('scroll', hideTip, { passive: true, capture: true });

  function watch(target, onMove) {
    target.addEventListener('pointermove', onMove);
    target.addEventListener('pointerdown', onMove);
    target.addEventListener('pointerleave', hideTip);
  }

  // ---- The legend is HTML: it wraps on a narrow screen and can be reached by keyboard.
  // `hidden` holds the names of the arms that the reader has switched off.
  function legend(into, arms, swatch, references, hidden, onToggle) {
    const before = into.previousElementSibling;
    const names = JSON.stringify([arms.map(a => [a.name, a.colour]), references]);
    const drawn = before?.classList.contains('legend');
    if (drawn && before.dataset.names === names) return;
    if (drawn) before.remove();
    // One line needs no name, unless it is one of several of its arm.
    if (arms.length + references.length < 2 && !arms.some(isRepeated)) return;
    const list = element('ul', 'legend');
    list.dataset.names = names;
    for (const arm of arms) {
      const button = element('button');
      button.type = 'button';
      button.setAttribute('aria-pressed', String(!hidden.has(arm.name)));
      button.title = 'Show or hide';
      const mark = element('i', swatch === 'line' && isRepeated(arm) ? 'dashed' : swatch);
      mark.style.setProperty('--colour', armVariable(arm));
      button.append(mark, arm.name);
      button.addEventListener('click', () => {
        const shown = button.getAttribute('aria-pressed') !== 'true';
        button.setAttribute('aria-pressed', String(shown));
        if (shown) hidden.delete(arm.name); else hidden.add(arm.name);
        onToggle(arm, shown);
      });
      const item = element('li');
      item.append(button);
      list.append(item);
    }
    for (const reference of references) {
      const item = element('li');
      const label = element('span');
      const mark = element('i', 'dashed');
      mark.style.setProperty('--colour', 'var(--ink)');
      label.append(mark, `${reference.name}: ${format(reference.value)}`);
      item.append(label);
      list.append(item);
    }
    // Outside of the element with role "img", whose content assistive technology does not enter.
    into.before(list);
  }

  // ---- Lines and bars, by ECharts.
  function chart(into, option) {
    const holder = element('div', 'chart');
    into.append(holder);
    const drawn = echarts.init(holder, null, { renderer: 'svg' });
    drawn.setOption(option());
    // In an observer a resize loop is reported as an error; a frame later it is not.
    const observer = new ResizeObserver(() => requestAnimationFrame(() => {
      if (!document.documentElement.classList.contains('printing') && !drawn.isDisposed()) drawn.resize();
    }));
    observer.observe(holder);
    const one = {
      drawn,
      redraw: () => drawn.setOption(option(), { replaceMerge: ['series'] }),
      dispose: () => { charts.delete(one); observer.disconnect(); drawn.dispose(); },
    };
    charts.add(one);
    return one;
  }

  function axis(spec) {
    const muted = style('--muted');
    return {
      name: spec.name,
      nameTextStyle: { color: muted, fontSize: 12.5, fontFamily: 'inherit' },
      axisLine: { show: false, lineStyle: { color: muted } },
      axisTick: { show: false },
      axisLabel: { color: muted, fontSize: 12, margin: 10, fontFamily: 'inherit', hideOverlap: true },
      splitLine: { show: false, lineStyle: { color: style('--rule') } },
      minorSplitLine: { show: false },
    };
  }
  const horizontal = spec => {
    const a = axis(spec);
    return { ...a, nameLocation: 'middle', nameGap: 30, axisLine: { ...a.axisLine, show: true, onZero: false },
      axisTick: { show: true, lineStyle: { color: style('--muted') } } };
  };
  const vertical = spec => {
    const a = axis(spec);
    return { ...a, nameLocation: 'end', nameGap: 14, splitLine: { ...a.splitLine, show: true },
      nameTextStyle: { ...a.nameTextStyle, align: 'left', padding: [0, 0, 0, 0] } };
  };
  const valueLabels = a => ({ ...a, axisLabel: { ...a.axisLabel, formatter: v => format(v) } });

  // A base of 2 gives a loss between 2 and 8 more than one tick.
  function scaled(a, spec, values) {
    if (!spec.logarithmic) return { ...a, type: 'value' };
    const positive = values.filter(v => isNumber(v) && v > 0);
    const [low, high] = extent(positive);
    if (low > high) return { ...a, type: 'value' }; // nothing to show
    return { ...a, type: 'log', logBase: Math.log10(high / low) < 1.5 ? 2 : 10 };
  }
  function extent(values) {
    let low = Infinity, high = -Infinity;
    for (const v of values) if (isNumber(v)) { if (v < low) low = v; if (v > high) high = v; }
    return [low, high];
  }

  const base = () => ({
    animation: false,
    textStyle: { fontFamily: getComputedStyle(document.body).fontFamily },
    legend: { show: false },
    grid: { left: 12, right: 18, top: 40, bottom: 36, outerBoundsMode: 'same', outerBoundsContain: 'axisLabel' },
    toolbox: {
      show: !document.documentElement.classList.contains('printing'),
      right: 0, top: 0, itemSize: 13, itemGap: 12, showTitle: true,
      iconStyle: { borderColor: style('--muted') },
      emphasis: { iconStyle: { borderColor: style('--accent'), textFill: style('--muted'), textPosition: 'left' } },
      feature: {
        dataZoom: { filterMode: 'filter', yAxisIndex: false, title: { zoom: 'Zoom', back: 'Back' } },
        restore: { title: 'Whole' },
        saveAsImage: { title: 'Save', backgroundColor: style('--paper') },
      },
    },
    // The wheel belongs to the page; with shift it zooms. What is outside is filtered, so that the
    // y axis follows: the end of a loss curve is flat beside its start.
    dataZoom: [{ type: 'inside', filterMode: 'filter', zoomOnMouseWheel: 'shift', moveOnMouseMove: false,
      moveOnMouseWheel: false, preventDefaultMouseMove: false }],
  });
  const tooltip = () => ({
    trigger: 'axis', confine: true, transitionDuration: 0, className: 'tip-chart',
    backgroundColor: style('--paper'), borderColor: style('--rule'), padding: [6, 10],
    textStyle: { color: style('--ink'), fontSize: 12.5 },
  });

  function lines(into, data) {
    const hidden = new Set();
    const shows = (v, isLog) => isNumber(v) && (!isLog || v > 0);
    let log, allX, allY, ends, smallest;
    const measure = () => {
      log = { x: data.x.logarithmic, y: data.y.logarithmic };
      allX = data.series.flatMap(s => s.x);
      allY = data.series.flatMap(s => [...s.mean, ...(s.low || []), ...(s.high || [])]);
      const [first, final] = extent(allX.filter(v => shows(v, log.x)));
      ends = first < final ? { min: first, max: final } : {};
      smallest = extent(allY.filter(v => shows(v, log.y)))[0];
    };
    measure();

    const option = () => ({
      ...base(),
      xAxis: { ...scaled(valueLabels(horizontal(data.x)), data.x, allX), ...ends },
      yAxis: { ...scaled(valueLabels(vertical(data.y)), data.y, allY), scale: true },
      tooltip: {
        ...tooltip(),
        axisPointer: { type: 'line', lineStyle: { color: style('--muted'), type: 'solid', width: 1 } },
        formatter: hits => {
          const at = hits.filter(h => h.seriesType === 'line');
          if (!at.length) return '';
          return tipContent(`${data.x.name} ${format(at[0].value[0], 6)}`, at.map(h => {
            const s = data.series.find(o => o.name === h.seriesName);
            const i = h.dataIndex;
            return { name: s.name, colour: armColour(s), value: format(s.mean[i]),
              more: s.low && isNumber(s.low[i]) && isNumber(s.high[i]) ? `${format(s.low[i])} – ${format(s.high[i])}` : '' };
          }));
        },
      },
      series: data.series.flatMap(s => {
        const points = s.x.map((x, i) => [shows(x, log.x) ? x : null, shows(x, log.x) && shows(s.mean[i], log.y) ? s.mean[i] : null]);
        const isAlone = i => points[i][1] !== null && (points[i - 1]?.[1] ?? null) === null && (points[i + 1]?.[1] ?? null) === null;
        const withMarks = points.length <= 24;
        const line = {
          name: s.name, type: 'line', z: 3,
          data: points.map((value, i) => isAlone(i) || withMarks ? { value, symbol: 'circle' } : value),
          symbol: 'none', symbolSize: 5, connectNulls: false,
          lineStyle: { width: 2, color: armColour(s), type: isRepeated(s) ? 'dashed' : 'solid' },
          itemStyle: { color: armColour(s) }, emphasis: { disabled: true },
        };
        return s.low ? [line, band(s)] : [line];
      }),
    });

    // A band is one polygon for each run of finite bounds.
    function band(s) {
      const { low, high } = s;
      const runs = [];
      let run = null;
      s.x.forEach((x, i) => {
        if (!shows(x, log.x) || !isNumber(low[i]) || !shows(high[i], log.y)) { run = null; return; }
        if (!run) runs.push(run = []);
        run.push([x, log.y ? Math.max(low[i], smallest) : low[i], high[i]]);
      });
      return {
        name: s.name, type: 'custom', z: 2, silent: true, clip: true, tooltip: { show: false },
        dimensions: ['x', 'low', 'high'], encode: { x: 0, y: [1, 2], tooltip: [] },
        data: runs.flat(),
        renderItem: (params, api) => params.dataIndexInside !== 0 ? null : {
          type: 'group',
          children: runs.map(points => ({
            type: 'polygon', silent: true,
            shape: { points: [...points.map(p => api.coord([p[0], p[2]])), ...points.toReversed().map(p => api.coord([p[0], p[1]]))] },
            style: { fill: armColour(s), opacity: .16 },
          })),
        },
      };
    }

    const one = chart(into, option);
    const showLegend = () => legend(into, data.series, 'line', [], hidden, (arm, shown) =>
      one.drawn.dispatchAction({ type: shown ? 'legendSelect' : 'legendUnSelect', name: arm.name }));
    showLegend();
    return {
      update: next => { data = next; measure(); one.redraw(); showLegend(); },
      dispose: one.dispose,
    };
  }

  function bars(into, data) {
    const layout = { barGap: '12%', barCategoryGap: '34%', barMaxWidth: 34 };
    const hidden = new Set();
    let values;
    const measure = () => { values = data.series.flatMap(s => s.mean).concat(data.references.map(r => r.value)); };
    measure();
    // On a logarithmic axis bars would hang from 1; they stand on the power below the lowest value.
    const standing = a => {
      if (a.type !== 'log') return a;
      const low = extent(values.filter(v => isNumber(v) && v > 0))[0];
      const floor = a.logBase ** Math.floor(Math.log(.9 * low) / Math.log(a.logBase));
      return { ...a, min: floor, startValue: floor };
    };
    const shows = v => isNumber(v) && (!data.y.logarithmic || v > 0);
    const category = a => ({ ...a, type: 'category', data: data.categories, axisTick: { show: false },
      axisLabel: { ...a.axisLabel, width: 110, overflow: 'truncate' } });
    const option = () => ({
      ...base(),
      xAxis: category(horizontal(data.x)),
      yAxis: standing(scaled(valueLabels(vertical(data.y)), data.y, values)),
      tooltip: {
        ...tooltip(),
        axisPointer: { type: 'shadow', shadowStyle: { color: style('--muted'), opacity: .12 } },
        formatter: hits => {
          const at = hits.filter(h => h.seriesType === 'bar');
          if (!at.length) return '';
          const i = at[0].dataIndex;
          return tipContent(`${data.x.name} ${data.categories[i]}`, at.map(h => {
            const s = data.series.find(o => o.name === h.seriesName);
            return { name: s.name, colour: armColour(s), value: format(s.mean[i]),
              more: s.errors && isNumber(s.errors[i]) ? `± ${format(s.errors[i], 2)}` : '' };
          }));
        },
      },
      series: [
        ...data.series.map(s => ({
          name: s.name, type: 'bar', ...layout, data: s.mean.map(v => shows(v) ? v : null),
          itemStyle: { color: armColour(s), borderRadius: [1, 1, 0, 0], opacity: isRepeated(s) ? .6 : 1 },
          emphasis: { disabled: true },
        })),
        ...data.series.filter(s => s.errors).map(s => ({
          name: s.name, type: 'custom', z: 5, silent: true, clip: true, tooltip: { show: false },
          encode: { x: 0, y: [1, 2], tooltip: [] },
          data: s.mean.map((v, i) => [i, v - s.errors[i], v + s.errors[i]])
            .filter((p, i) => shows(s.mean[i]) && isNumber(s.errors[i]) && shows(p[1])),
          renderItem: (params, api) => {
            const visible = data.series.filter(o => !hidden.has(o.name));
            const slot = api.barLayout({ ...layout, count: visible.length })[visible.indexOf(s)];
            if (!slot) return null;
            const at = api.value(0);
            const low = api.coord([at, api.value(1)]), high = api.coord([at, api.value(2)]);
            const x = low[0] + slot.offsetCenter;
            const cap = Math.min(4, slot.width / 4);
            return {
              type: 'path', silent: true,
              shape: { pathData: `M${x} ${low[1]}L${x} ${high[1]}M${x - cap} ${high[1]}h${2 * cap}M${x - cap} ${low[1]}h${2 * cap}` },
              style: { fill: 'none', stroke: style('--ink'), lineWidth: 1.2 },
            };
          },
        })),
        // The points stretch the axis as far as the line that marks the reference.
        ...data.references.map(r => ({
          name: `reference ${r.name}`, type: 'line', silent: true, symbol: 'none', lineStyle: { opacity: 0 }, tooltip: { show: false },
          data: data.categories.map(() => r.value),
          // Without a precision ECharts moves the line to two decimals.
          markLine: { silent: true, precision: 12, symbol: 'none', animation: false, label: { show: false }, data: [{ yAxis: r.value }],
            lineStyle: { color: style('--ink'), type: 'dashed', width: 1.2 } },
        })),
      ],
    });
    const one = chart(into, option);
    const showLegend = () => legend(into, data.series, 'box', data.references, hidden, (arm, shown) =>
      one.drawn.dispatchAction({ type: shown ? 'legendSelect' : 'legendUnSelect', name: arm.name }));
    showLegend();
    return {
      update: next => { data = next; measure(); one.redraw(); showLegend(); },
      dispose: one.dispose,
    };
  }

  // ---- Histograms: plain SVG, because there is one for every layer.
  function histograms(into, data) {
    const svg = (tag, attributes) => {
      const e = document.createElementNS('http://www.w3.org/2000/svg', tag);
      for (const [name, value] of Object.entries(attributes)) e.setAttribute(name, value);
      return e;
    };
    const hidden = new Set();
    const share = counts => {
      const total = counts.reduce((sum, c) => sum + (isNumber(c) ? c : 0), 0);
      return counts.map(c => isNumber(c) && total > 0 ? c / total : 0);
    };
    let draw;
    function build() {
      const { low, high, name: valueName } = data.x;
      const mean = shares => shares.reduce((sum, s, i) => sum + s * (low + (i + .5) / shares.length * (high - low)), 0);
      const minis = element('div', 'minis');
      into.append(minis);
      const draws = data.panels.map((title, index) => {
        const mini = element('div', 'mini');
        const head = element('div', 'head');
        const note = element('span');
        head.append(element('b', '', title), note);
        const picture = svg('svg', { viewBox: '0 0 100 100', preserveAspectRatio: 'none' });
        const ends = element('div', 'ends');
        ends.append(element('span', '', format(low)), element('span', '', format(high)));
        mini.append(head, picture, ends);
        minis.append(mini);
        const arms = data.series.map(s => ({ ...s, shares: share(s.counts[index]) })).filter(s => s.shares.some(v => v > 0));
        watch(picture, event => {
          const box = picture.getBoundingClientRect();
          const at = (event.clientX - box.left) / box.width;
          const seen = arms.filter(a => !hidden.has(a.name));
          if (!seen.length || at < 0 || at >= 1) { hideTip(); return; }
          const bins = seen[0].shares.length;
          const bin = Math.floor(at * bins);
          const edge = i => format(low + i / bins * (high - low), 3);
          showTip(event, `${title}, ${valueName} ${edge(bin)} – ${edge(bin + 1)}`, seen.map(a => ({
            name: a.name, colour: armVariable(a), value: `${format(100 * (a.shares[Math.floor(at * a.shares.length)] || 0), 3)} %`,
            more: `mean ${format(mean(a.shares), 3)}` })));
        });
        return () => {
          const seen = arms.filter(a => !hidden.has(a.name));
          const peak = Math.max(...seen.flatMap(a => a.shares), 0);
          note.textContent = peak > 0 ? `peak ${format(100 * peak, 2)} %` : 'no values';
          picture.replaceChildren();
          for (const a of seen) {
            const bins = a.shares.length;
            const top = a.shares.map((s, i) => `H${(100 * i / bins).toFixed(2)}V${(100 - 100 * s / peak).toFixed(2)}H${(100 * (i + 1) / bins).toFixed(2)}`).join('');
            const colour = armVariable(a);
            const area = svg('path', { d: `M0 100${top}V100Z` });
            area.style.cssText = `fill:${colour};opacity:.22`;
            const outline = svg('path', { d: `M0 100${top}V100` });
            outline.style.cssText = `fill:none;stroke:${colour};stroke-width:1.4${isRepeated(a) ? ';stroke-dasharray:4 2' : ''}`;
            const x = 100 * (mean(a.shares) - low) / (high - low);
            const middle = svg('path', { d: `M${x} 100V108` });
            middle.style.cssText = `stroke:${colour};stroke-width:2.5`;
            picture.append(area, outline, middle);
          }
        };
      });
      draw = () => draws.forEach(d => d());
      draw();
      into.append(element('p', 'axis-name', `${valueName}; ticks below mark the means. Each panel is scaled to its peak, given as the share of one bin.`));
      legend(into, data.series, 'box', [], hidden, () => draw());
    }
    build();
    return { update: next => { data = next; into.replaceChildren(); build(); }, dispose: () => {} };
  }

  // ---- Heat maps: one canvas pixel for each value, enlarged by the browser without seams.
  const VIRIDIS = ['440154', '482475', '414487', '355f8d', '2a788e', '21918c', '22a884', '44bf70', '7ad151', 'bddf26', 'fde725']
    .map(hex => [0, 2, 4].map(i => parseInt(hex.slice(i, i + 2), 16)));
  function colourAt(t) {
    const p = Math.min(1, Math.max(0, t)) * (VIRIDIS.length - 1);
    const i = Math.min(VIRIDIS.length - 2, Math.floor(p));
    return VIRIDIS[i].map((from, channel) => Math.round(from + (p - i) * (VIRIDIS[i + 1][channel] - from)));
  }

  function floats(base64) {
    const bytes = Uint8Array.from(atob(base64), c => c.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    return Float32Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
  }

  // Position of a value in [0, 1] on the colour scale, and back.
  function colourScale(kind, panels) {
    let low = Infinity, high = -Infinity;
    for (const panel of panels) for (const v of panel.floats) {
      if (!Number.isFinite(v)) continue;
      if (v < low) low = v;
      if (v > high) high = v;
    }
    if (low > high) return null;
    if (kind === 'logarithmic' && high > 0) {
      let smallest = high;
      for (const panel of panels) for (const v of panel.floats) if (v > 0 && v < smallest) smallest = v;
      const from = Math.log(Math.max(smallest, high / 1e5)), to = Math.log(high);
      return { isOpen: low < Math.exp(from) * .999, position: v => v > 0 ? (to > from ? (Math.log(v) - from) / (to - from) : 1) : 0,
        value: t => Math.exp(from + t * (to - from)) };
    }
    if (kind === 'square_root' || kind === 'logarithmic') {
      // From zero, and for negative values with their sign, so that zero is one colour everywhere.
      const root = v => Math.sign(v) * Math.sqrt(Math.abs(v));
      const from = Math.min(0, root(low)), to = Math.max(root(high), from);
      return { position: v => to > from ? (root(v) - from) / (to - from) : 0,
        value: t => { const r = from + t * (to - from); return Math.sign(r) * r * r; } };
    }
    return { position: v => high > low ? (v - low) / (high - low) : 0, value: t => low + t * (high - low) };
  }

  function heatmaps(into, data) {
    drawMaps(into, data);
    return { update: next => { into.replaceChildren(); drawMaps(into, next); }, dispose: () => {} };
  }

  function drawMaps(into, data) {
    for (const panel of data.panels) panel.floats = floats(panel.values);
    const scale = colourScale(data.scale, data.panels);
    const table = Array.from({ length: 256 }, (_, i) => colourAt(i / 255));
    if (scale) into.append(colourBar(scale, table));
    const panels = element('div', 'panels');
    into.append(panels);
    for (const panel of data.panels) {
      const { rows, columns } = panel;
      const holder = element('div', 'panel');
      const canvas = element('canvas');
      canvas.width = columns;
      canvas.height = rows;
      canvas.style.aspectRatio = `${columns} / ${Math.max(rows, columns / 4)}`;
      if (rows > 600 || columns > 600) canvas.style.imageRendering = 'auto';
      const context = canvas.getContext('2d');
      const image = context.createImageData(columns, rows);
      panel.floats.forEach((v, i) => {
        if (!Number.isFinite(v)) return; // stays transparent
        const [r, g, b] = table[Math.round(255 * Math.min(1, Math.max(0, scale.position(v))))];
        image.data.set([r, g, b, 255], 4 * i);
      });
      context.putImageData(image, 0, 0);
      const position = (side, i) => side.step === 1 ? `${i}` : `${i * side.step}–${(i + 1) * side.step - 1}`;
      watch(canvas, event => {
        const box = canvas.getBoundingClientRect();
        const row = Math.floor((event.clientY - box.top) / box.height * rows);
        const column = Math.floor((event.clientX - box.left) / box.width * columns);
        if (row < 0 || column < 0 || row >= rows || column >= columns) { hideTip(); return; }
        showTip(event, `${data.rows.name} ${position(data.rows, row)}, ${data.columns.name} ${position(data.columns, column)}`,
          data.panels.filter(p => p === panel || (p.rows === rows && p.columns === columns))
            .map(p => ({ name: p.title, value: format(p.floats[row * columns + column]) })));
      });
      const frame = element('div', 'frame');
      const sideLabels = element('div', 'rows');
      sideLabels.append(element('span', '', '0'), element('em', '', data.rows.name), element('span', '', format(rows * data.rows.step - 1, 7)));
      const ends = element('div', 'ends');
      ends.append(element('span', '', '0'), element('span', '', data.columns.name), element('span', '', format(columns * data.columns.step - 1, 7)));
      frame.append(sideLabels, canvas, ends);
      holder.append(element('b', '', panel.title), frame);
      panels.append(holder);
    }
  }

  function colourBar(scale, table) {
    const bar = element('div', 'scale');
    const canvas = element('canvas');
    canvas.width = 256;
    canvas.height = 1;
    const context = canvas.getContext('2d');
    const image = context.createImageData(256, 1);
    table.forEach(([r, g, b], i) => image.data.set([r, g, b, 255], 4 * i));
    context.putImageData(image, 0, 0);
    const ticks = element('div');
    [0, .25, .5, .75, 1].forEach(t => {
      const tick = element('span', '', (t === 0 && scale.isOpen ? '≤ ' : '') + format(scale.value(t), 2));
      tick.style.left = `${100 * t}%`;
      ticks.append(tick);
    });
    bar.append(canvas, ticks);
    return bar;
  }

  // ---- Tables.
  function sortable(table) {
    const body = table.tBodies[0];
    const rows = [...body.rows];
    if (rows.length < 2) return;
    const headers = [...table.tHead.rows[0].cells];
    headers.forEach((header, column) => {
      const button = element('button');
      button.type = 'button';
      button.title = 'Sort';
      button.append(...header.childNodes);
      header.append(button);
      button.addEventListener('click', () => {
        const order = { ascending: 'descending', descending: 'none' }[header.getAttribute('aria-sort')] || 'ascending';
        headers.forEach(h => h.removeAttribute('aria-sort'));
        if (order === 'none') { body.append(...rows); return; }
        header.setAttribute('aria-sort', order);
        const sign = order === 'ascending' ? 1 : -1;
        const key = row => {
          const cell = row.cells[column];
          const value = cell.dataset.value;
          if (value === undefined) return cell.hasAttribute('aria-label') ? null : cell.textContent;
          return Number.isNaN(Number(value)) ? null : Number(value);
        };
        const compare = (a, b) => {
          const x = key(a), y = key(b);
          if (x === null || y === null) return (x === null) - (y === null); // no value: at the end
          return sign * (typeof x === 'number' && typeof y === 'number' ? (x < y ? -1 : x > y ? 1 : 0)
            : String(x).localeCompare(String(y), 'en', { numeric: true }));
        };
        body.append(...[...rows].sort(compare));
      });
    });
  }

  const draw = { lines, bars, histograms, heatmaps };
  const drawings = new WeakMap(); // of figures
  const dataOf = figure => JSON.parse(figure.querySelector('script').textContent);

  function failed(figure, problem) {
    console.error(problem);
    figure.querySelector('.drawing').replaceChildren(
      element('p', 'failed', `This figure could not be drawn: ${problem.message}`));
  }

  function drawFigure(figure) {
    try {
      drawings.set(figure, draw[figure.dataset.kind](figure.querySelector('.drawing'), dataOf(figure)));
    } catch (problem) {
      failed(figure, problem);
    }
  }

  function begin(within) {
    within.querySelectorAll('table').forEach(sortable);
    within.querySelectorAll('figure[data-kind]').forEach(drawFigure);
  }

  function forget(within) {
    for (const figure of within.querySelectorAll('figure[data-kind]')) drawings.get(figure)?.dispose();
  }

  // Takes over from a newer figure of the same kind what has changed; what the reader has zoomed,
  // switched off or opened stays. Gives whether that could be done.
  function renew(figure, newer) {
    const drawing = drawings.get(figure);
    if (!drawing || figure.dataset.kind !== newer.dataset.kind) return false;
    hideTip();
    try {
      drawing.update(dataOf(newer));
    } catch (problem) {
      failed(figure, problem);
      return false;
    }
    figure.id = newer.id;
    const wasOpen = figure.querySelector('details.values')?.open;
    figure.querySelector('.drawing').setAttribute('aria-label', newer.querySelector('.drawing').getAttribute('aria-label'));
    for (const part of ['.title', 'script', 'figcaption']) figure.querySelector(part).replaceWith(newer.querySelector(part));
    figure.querySelector('details.values')?.remove();
    const values = newer.querySelector('details.values');
    if (values) {
      values.open = Boolean(wasOpen);
      values.querySelectorAll('table').forEach(sortable);
      figure.append(values);
    }
    return true;
  }

  begin(document.querySelector('main'));
  window.sluiceReport = { begin, forget, renew };

  const redrawAll = () => charts.forEach(one => one.redraw());
  dark.addEventListener('change', redrawAll);
  addEventListener('beforeprint', () => {
    document.documentElement.classList.add('printing');
    redrawAll();
    charts.forEach(one => one.drawn.resize({ width: 660, height: 300 }));
  });
  addEventListener('afterprint', () => {
    document.documentElement.classList.remove('printing');
    redrawAll();
    charts.forEach(one => one.drawn.resize({ width: 'auto', height: 'auto' }));
  });
})();
