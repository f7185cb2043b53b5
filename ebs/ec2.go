package ebs

import (
	"context"
	"time"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/smithy-go/middleware"
)

// EC2 is a client of EC2 for what launches instances: with the store's
// credentials, endpoints, proxies and authorities, and like the store's own
// without the SDK's retryer. Its requests are counted and traced as the store's
// are, and its errors hold no secret.
func (s *Store) EC2() *ec2.Client {
	return ec2.New(s.api.ec2.Options(), func(o *ec2.Options) {
		o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
			return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("SnapferryTrace", s.traceEC2), middleware.After)
		})
	})
}

func (s *Store) traceEC2(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
	op := awsmiddleware.GetOperationName(ctx)
	s.count(op)
	began := time.Now()
	out, meta, err := next.HandleInitialize(ctx, in)
	err = clean(err)
	if s.cfg.Trace != nil {
		s.cfg.Trace(Exchange{Service: serviceEC2, Op: op, What: op, Took: time.Since(began), Err: err, Throttled: wasThrottled(op, err)})
	}
	return out, meta, err
}
