export CUDA_VISIBLE_DEVICES_SAVED=$CUDA_VISIBLE_DEVICES
start=$(date +%s)
say() { echo "[$(( $(date +%s) - start )) s] $*"; }
nvidia-smi --query-gpu=name --format=csv,noheader; nproc; lscpu | grep "Model name"
sed 's/lr"\] = 4e-3/lr"] = 1e-2/' examples/spikegpt.py > examples/spikegpt_b.py
sed 's/lr"\] = 4e-3/lr"] = 2e-3/' examples/spikegpt.py > examples/spikegpt_c.py
say smoke; python3 -u gpu_smoke.py 2>&1 | tail -8
say bench
timeout 75 taskset -c 26-31 python3 -u benchmarks/spikformer_training.py --rounds 4 2>&1 | cut -c1-60000 > $OUT/bench.txt; cut -c1-500 $OUT/bench.txt
say folds and pretraining
(OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 timeout $(( 170 - $(date +%s) + start )) taskset -c 26-31 python3 -u benchmarks/spikformer_nmnist.py $DATA --processes 5 > $OUT/folds.txt 2>&1) &
F=$!
(OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 timeout $(( 170 - $(date +%s) + start )) taskset -c 26-31 python3 -u benchmarks/masked_pretraining.py --processes 5 > $OUT/masked.txt 2>&1) &
M=$!
(timeout $(( 170 - $(date +%s) + start )) taskset -c 26-31 python3 -m spikenet train --preset maxformer-digits --out $OUT/runs --seeds 0 > $OUT/maxformer.txt 2>&1) &
wait
say done
for f in gpt_a gpt_b gpt_c stream folds masked maxformer; do echo "== $f"; tail -12 $OUT/$f.txt | cut -c1-1500; done
rm -rf $OUT/runs/*/checkpoints
