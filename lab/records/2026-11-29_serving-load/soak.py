"""soak.py PORT SECONDS PID: saturation with disconnects, malformed bodies, slow readers; answers are compared with those of one client alone"""
import sys, json, time, threading, http.client, random, socket, os
port, seconds, pid = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
PROMPTS = [f"Tell me about the number {i} and the sea" for i in range(24)]
def post(path, body, timeout=600):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    c.request("POST", path, body if isinstance(body, bytes) else json.dumps(body), {"Content-Type": "application/json"})
    r = c.getresponse(); data = r.read(); c.close(); return r.status, data
def ask(i, **more): return dict({"messages": [{"role": "user", "content": PROMPTS[i]}], "max_tokens": 24 + i % 5 * 8, "temperature": 0}, **more)
alone = []
for i in range(len(PROMPTS)):
    s, d = post("/v1/chat/completions", ask(i)); assert s == 200, d
    alone.append(json.loads(d)["choices"][0]["message"]["content"])
print("alone:", [a[:20] for a in alone[:3]], flush=True)
stat = {"equal": 0, "different": 0, "busy": 0, "left": 0, "malformed": 0, "slow": 0, "bad status": 0, "error": 0}
lock = threading.Lock(); end = time.time() + seconds
def count(k):
    with lock: stat[k] += 1
def stream(i, r, kind):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    c.request("POST", "/v1/chat/completions", json.dumps(ask(i, stream=True)), {"Content-Type": "application/json"})
    resp = c.getresponse()
    if resp.status == 429: resp.read(); c.close(); count("busy"); time.sleep(.05); return
    if resp.status != 200: print("status", resp.status, resp.read()[:200], flush=True); count("bad status"); return
    text, n, stop = "", 0, r.randrange(1, 20)
    for line in resp:
        if line.startswith(b"data: ") and b"[DONE]" not in line:
            ch = json.loads(line[6:])["choices"]
            if ch: text += ch[0]["delta"].get("content") or ""
            n += 1
            if kind == "left" and n >= stop: c.sock and c.sock.close(); c.close(); count("left"); return
            if kind == "slow": time.sleep(.05)
    c.close()
    if kind == "slow": count("slow")
    count("equal" if text == alone[i] else "different")
    if text != alone[i]: print("different", i, repr(text[:80]), repr(alone[i][:80]), flush=True)
BAD = [b"{", b"", b"[]", b'{"messages": 3}', b'{"messages": [{"role": "user", "content": "x"}], "temperature": "hot"}', b"\xff\xfe" * 40, b'{"messages": [' * 200, b'{"nobody": 1}']
def client(n):
    r = random.Random(n)
    while time.time() < end:
        try:
            k = r.random(); i = r.randrange(len(PROMPTS))
            if k < .15:
                s, d = post("/v1/chat/completions", r.choice(BAD)); count("malformed")
                if s not in (400, 413, 429): print("malformed got", s, d[:200], flush=True); count("bad status")
                if b"Exception" in d or b"\tat " in d: print("trace", d[:200], flush=True); count("error")
            elif k < .2:
                s = socket.create_connection(("127.0.0.1", port)); s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{\"mess"); time.sleep(r.random()); s.close(); count("left")
            elif k < .4: stream(i, r, "left")
            elif k < .45: stream(i, r, "slow")
            elif k < .7: stream(i, r, "whole")
            else:
                s, d = post("/v1/chat/completions", ask(i))
                if s == 429: count("busy"); time.sleep(.05); continue
                if s != 200: print("status", s, d[:200], flush=True); count("bad status"); continue
                t = json.loads(d)["choices"][0]["message"]["content"]; count("equal" if t == alone[i] else "different")
                if t != alone[i]: print("different", i, repr(t[:80]), repr(alone[i][:80]), flush=True)
        except Exception as e:
            print("client", n, type(e).__name__, e, flush=True); count("error")
def rss(): return int(next(l for l in open(f"/proc/{pid}/status") if l.startswith("VmRSS")).split()[1]) // 1024
ts = [threading.Thread(target=client, args=(i,)) for i in range(int(sys.argv[4]) if len(sys.argv) > 4 else 16)]; [t.start() for t in ts]
begin = time.time()
while time.time() < end:
    time.sleep(min(60, max(.1, end - time.time())))
    fds = len(os.listdir(f"/proc/{pid}/fd")); th = len(os.listdir(f"/proc/{pid}/task"))
    print(f"{time.time()-begin:.0f} s: rss {rss()} MB, fds {fds}, threads {th}, {stat}", flush=True)
[t.join() for t in ts]; time.sleep(3)
c = http.client.HTTPConnection("127.0.0.1", port); c.request("GET", "/metrics"); m = c.getresponse().read().decode()
print("\n".join(l for l in m.split("\n") if l and not l.startswith("#"))[:3000]); print("end", stat, "rss", rss())
