export CUDA_VISIBLE_DEVICES_SAVED=$CUDA_VISIBLE_DEVICES
start=$(date +%s)
say() { echo "[$(( $(date +%s) - start )) s] $*"; }
nvidia-smi --query-gpu=name --format=csv,noheader; nproc; lscpu | grep "Model name"
sed 's/lr"\] = 4e-3/lr"] = 1e-2/' examples/spikegpt.py > examples/spikegpt_b.py
sed 's/lr"\] = 4e-3/lr"] = 2e-3/' examples/spikegpt.py > examples/spikegpt_c.py
(CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=2 NUMBA_NUM_THREADS=2 timeout 380 taskset -c 0,1 python3 -u examples/spikegpt.py --minutes 3.1 > $OUT/gpt_a.txt 2>&1) &
(CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=2 NUMBA_NUM_THREADS=2 timeout 380 taskset -c 2,3 python3 -u examples/spikegpt_b.py --minutes 3.1 > $OUT/gpt_b.txt 2>&1) &
(CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=2 NUMBA_NUM_THREADS=2 timeout 380 taskset -c 4,5 python3 -u examples/spikegpt_c.py --minutes 3.1 > $OUT/gpt_c.txt 2>&1) &
(CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 timeout 380 taskset -c 6 python3 -u benchmarks/spikegpt_stream.py > $OUT/stream.txt 2>&1) &
wait
for f in gpt_a gpt_b gpt_c stream; do echo "== $f"; tail -12 $OUT/$f.txt | cut -c1-1500; done
