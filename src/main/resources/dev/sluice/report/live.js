// Keeps a live page up to date: asks the server that gave it what has changed, and puts that in the
// place of what was there.
(() => {
  'use strict';

  const EVERY_MILLIS = 2000;
  const HIDDEN_MILLIS = 20000;
  const LONGEST_ANSWER_MILLIS = 15000;
  const { session } = document.body.dataset;
  let revision = Number(document.body.dataset.revision);
  let timer, asking = false;

  const parts = new Map([...document.querySelectorAll('[data-part]')].map(part => [part.dataset.part, part]));
  const places = [document.querySelector('header'), document.querySelector('main')];

  const lost = document.createElement('p');
  lost.className = 'lost';
  lost.setAttribute('role', 'alert');
  document.body.prepend(lost);

  function fragment(html) {
    const template = document.createElement('template');
    template.innerHTML = html; // escaped by the server; its scripts are data
    return template.content;
  }

  function show(part, html) {
    const content = fragment(html);
    const newer = content.querySelector('figure[data-kind]');
    const figure = part.querySelector('figure[data-kind]');
    if (newer && figure && window.sluiceReport.renew(figure, newer)) return;
    const sorted = [...part.querySelectorAll('th')].findIndex(header => header.hasAttribute('aria-sort'));
    const order = part.querySelector('th[aria-sort]')?.getAttribute('aria-sort');
    const focused = [...part.querySelectorAll('button, summary, a, [tabindex]')].indexOf(document.activeElement);
    const open = [...part.querySelectorAll('details')].map(details => details.open);
    const scrolled = part.querySelector('.table')?.scrollLeft;
    window.sluiceReport.forget(part);
    part.replaceChildren(content);
    window.sluiceReport.begin(part);
    part.querySelectorAll('details').forEach((details, i) => { details.open = Boolean(open[i]); });
    if (sorted >= 0) {
      const button = part.querySelectorAll('th')[sorted]?.querySelector('button');
      button?.click();
      if (order === 'descending') button?.click();
    }
    if (scrolled) part.querySelector('.table').scrollLeft = scrolled;
    if (focused >= 0) part.querySelectorAll('button, summary, a, [tabindex]')[focused]?.focus({ preventScroll: true });
  }

  function apply(news) {
    revision = news.revision;
    document.body.dataset.revision = revision;
    const names = Object.keys(news.parts);
    if (!names.length) return;
    for (const [name, part] of parts) {
      if (name in news.parts) continue;
      window.sluiceReport.forget(part);
      part.remove();
      parts.delete(name);
    }
    const last = [null, null]; // of header and main
    for (const name of names) {
      const place = news.parts[name] ? 0 : 1;
      let part = parts.get(name);
      if (!part) {
        part = document.createElement('div');
        part.dataset.part = name;
        if (name === 'state') part.setAttribute('role', 'status');
        parts.set(name, part);
      }
      // Only what stands in the wrong place is moved.
      const before = last[place] ? last[place].nextElementSibling
        : places[place].querySelector(':scope > [data-part]');
      if (before !== part) places[place].insertBefore(part, before);
      last[place] = part;
      if (name in news.changed) show(part, news.changed[name]);
    }
  }

  async function ask() {
    if (asking) return;
    asking = true;
    clearTimeout(timer);
    try {
      const answer = await fetch(`live?after=${revision}`,
        { cache: 'no-store', signal: AbortSignal.timeout(LONGEST_ANSWER_MILLIS) });
      if (!answer.ok) throw new Error(`the answer is ${answer.status}`);
      const news = await answer.json();
      if (news.session !== session) { location.reload(); return; }
      apply(news);
      lost.textContent = '';
    } catch (problem) {
      lost.textContent = `Sluice does not answer (${problem.message}). This is what it said last; the page goes on when sluice watch runs again.`;
    } finally {
      asking = false;
      timer = setTimeout(ask, document.hidden ? HIDDEN_MILLIS : EVERY_MILLIS);
    }
  }

  document.addEventListener('visibilitychange', () => { if (!document.hidden) ask(); });
  timer = setTimeout(ask, EVERY_MILLIS);
})();
