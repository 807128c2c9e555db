"""load.py PORT CLIENTS REQUESTS_PER_CLIENT [prompt tokens] [answer tokens]: streams completions, prints tokens/s, first token p50/p95, inter-token p95"""
import sys, json, time, threading, http.client, random
port, clients, per = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
plen = int(sys.argv[4]) if len(sys.argv) > 4 else 256
alen = int(sys.argv[5]) if len(sys.argv) > 5 else 128
first, gaps, done, lock = [], [], [0], threading.Lock()
def client(n):
    r = random.Random(n)
    for k in range(per):
        ids = [r.randrange(1000, 140000) for _ in range(plen)]
        c = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        body = json.dumps({"prompt": ids, "max_tokens": alen, "temperature": 0, "stream": True, "ignore_eos": True, "cache_prompt": False})
        t0 = time.perf_counter(); last = None
        c.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
        resp = c.getresponse()
        if resp.status != 200: print(resp.status, resp.read()[:300]); return
        n_tok = 0
        for line in resp:
            if not line.startswith(b"data: ") or b"[DONE]" in line: continue
            now = time.perf_counter()
            with lock:
                if last is None: first.append(now - t0)
                else: gaps.append(now - last)
            last = now; n_tok += 1
        with lock: done[0] += alen
        c.close()
t = time.perf_counter()
ts = [threading.Thread(target=client, args=(i,)) for i in range(clients)]
[x.start() for x in ts]; [x.join() for x in ts]
all_s = time.perf_counter() - t
p = lambda xs, q: sorted(xs)[min(len(xs) - 1, int(q * len(xs)))] if xs else float("nan")
print(f"{clients} clients: {done[0]/all_s:.1f} tok/s, {all_s:.1f} s, first token p50 {p(first,.5):.2f} p95 {p(first,.95):.2f} s, gaps p50 {1e3*p(gaps,.5):.0f} p95 {1e3*p(gaps,.95):.0f} ms, events {len(gaps)+len(first)}")
