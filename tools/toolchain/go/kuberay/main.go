// KubeRay's controllers of RayJobs and RayClusters, in one namespace. Their own program asks for more than they use: it
// watches every Secret and Job of that namespace, for clusters with tokens and for pods that submit, and RayServices.
package main

import (
	"context"
	"flag"
	"os"

	"go.uber.org/zap/zapcore"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	configapi "github.com/ray-project/kuberay/ray-operator/apis/config/v1alpha1"
	rayv1 "github.com/ray-project/kuberay/ray-operator/apis/ray/v1"
	"github.com/ray-project/kuberay/ray-operator/controllers/ray"
)

const concurrency = 1

func main() {
	namespace := flag.String("namespace", "", "namespace of the RayJobs")
	own := flag.String("own-namespace", "", "namespace of this program, where Secrets and Jobs are watched, and none are")
	health := flag.String("health-address", ":8082", "where /healthz and /readyz answer")
	flag.Parse()
	// It looks at what is suspended every three seconds, and would tell each time.
	ctrl.SetLogger(zap.New(zap.Level(zapcore.WarnLevel)))
	if err := run(ctrl.SetupSignalHandler(), *namespace, *own, *health); err != nil {
		ctrl.Log.Error(err, "the operator ends")
		os.Exit(1)
	}
}

func run(ctx context.Context, namespace, own, health string) error {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, rayv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return err
		}
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	elsewhere := cache.ByObject{Namespaces: map[string]cache.Config{own: {}}}
	manager, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: scheme,
		Cache: cache.Options{
			DefaultNamespaces: map[string]cache.Config{namespace: {}},
			ByObject:          map[client.Object]cache.ByObject{&corev1.Secret{}: elsewhere, &batchv1.Job{}: elsewhere},
		},
		Metrics:                metricsserver.Options{BindAddress: "0"},
		HealthProbeBindAddress: health,
	})
	if err != nil {
		return err
	}
	clusters := ray.NewReconciler(ctx, manager, ray.RayClusterReconcilerOptions{})
	if err := clusters.SetupWithManager(manager, concurrency); err != nil {
		return err
	}
	jobs := ray.NewRayJobReconciler(ctx, manager, ray.RayJobReconcilerOptions{}, configapi.Configuration{})
	if err := jobs.SetupWithManager(manager, concurrency); err != nil {
		return err
	}
	for _, add := range []func(string, healthz.Checker) error{manager.AddHealthzCheck, manager.AddReadyzCheck} {
		if err := add("ping", healthz.Ping); err != nil {
			return err
		}
	}
	return manager.Start(ctx)
}
